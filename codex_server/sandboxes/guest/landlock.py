"""Landlock: what a process reaches of files, TCP, abstract sockets and other processes, where there are no namespaces.

A ruleset names every right that it handles; a right that is handled and granted by no rule is refused (EACCES
for files and TCP, EPERM for sockets and signals), for this process, its children, and whatever they exec.

Source: ``linux/landlock.h``.
"""

import errno
import os
import stat
import struct
from collections.abc import Sequence

from . import kernel

NEEDED_ABI = 6
"""The oldest version that keeps signals and abstract sockets in: Linux 6.12."""

_ASK_VERSION = 1
_PATH_BENEATH = 1
_LOG_SAME_EXEC_OFF = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_RESOLVE_UNIX = 1 << 16  # since version 9: connecting to a socket by its path, unless it was made inside
_UP_TO_VERSION_6 = (1 << 16) - 1

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_READ_AND_WRITE = _UP_TO_VERSION_6 & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV)
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE  # the rights that a rule for a non-directory may name

_TCP_BIND_AND_CONNECT = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


def abi() -> int:
    """The version of Landlock that this kernel speaks; 0 when it has none, or forbids it."""
    try:
        return kernel.syscall("landlock_create_ruleset", None, 0, _ASK_VERSION)
    except OSError:
        return 0


def restrict(read_only: Sequence[str], read_write: Sequence[str]) -> None:
    """Confine this process for good; no-new-privileges must be set. Call it while there is one thread.

    ``read_only`` paths (and all below them) may be read and executed, ``read_write`` paths also written, made and
    removed; nothing else can be opened. Links are followed: the rule is for what a path leads to. TCP is refused
    altogether; signals and abstract sockets reach only this process and its descendants. UDP and named sockets are not
    Landlock's: the system call policy refuses them. Raises ``OSError``: for a kernel that speaks less than
    ``NEEDED_ABI``, or a path that does not exist.
    """
    version = abi()
    if version < NEEDED_ABI:
        needed = f"Landlock version {NEEDED_ABI} (Linux 6.12) is needed to keep signals and sockets in"
        raise OSError(errno.EOPNOTSUPP, f"{needed}; here it is {version}")
    handled = _UP_TO_VERSION_6 | (_RESOLVE_UNIX if version >= 9 else 0)
    attributes = struct.pack("=QQQ", handled, _TCP_BIND_AND_CONNECT, _ABSTRACT_SOCKETS_AND_SIGNALS)
    ruleset = kernel.syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for paths, rights in ((read_only, _READ), (read_write, _READ_AND_WRITE)):
            for path in paths:
                _allow(ruleset, path, rights)
        # A guest that keeps trying must not be able to fill the host's audit log.
        kernel.syscall("landlock_restrict_self", ruleset, _LOG_SAME_EXEC_OFF if version >= 7 else 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(target).st_mode):
            rights &= _FOR_FILES
        rule = struct.pack("=Qi", rights, target)
        kernel.syscall("landlock_add_rule", ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(target)
