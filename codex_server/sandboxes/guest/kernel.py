"""The few kernel interfaces that Python does not offer, each as a function that raises ``OSError``.

Numbers are from the kernel's headers (``linux/mount.h``, ``sched.h``, ``prctl.h``, ``capability.h``, ``openat2.h``).
"""

import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2

_AT_FDCWD = -100
_AT_EMPTY_PATH, _AT_RECURSIVE = 0x1000, 0x8000
_OPEN_TREE_CLONE = 1
_MOUNT_ATTR_IDMAP = 0x0010_0000
_MOVE_MOUNT_F_EMPTY_PATH = 4

_RENAME_NOREPLACE = 1

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4

_SECBIT_NO_SETUID_FIXUP = 1 << 2
_AT_RANDOM, _AT_RANDOM_BYTES = 25, 16

_SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5  # Linux 5.19
_CAPABILITY_VERSION_3 = 0x20080522
LAST_CAPABILITY = 63  # more than any kernel has: asking beyond the last one fails with EINVAL and ends the loop

_LAST_DESCRIPTOR = 0x7FFFFFFF  # a descriptor is an int; an older gVisor takes no more
_PATH_MAX = 4096

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 1, 2, 4, 8

_NUMBERS = {
    "x86_64": {
        "clone": 56,
        "capget": 125,
        "capset": 126,
        "pivot_root": 155,
        "exit_group": 231,
        "renameat2": 316,
        "seccomp": 317,
    },
    "aarch64": {
        "clone": 220,
        "capget": 90,
        "capset": 91,
        "pivot_root": 41,
        "exit_group": 94,
        "renameat2": 276,
        "seccomp": 277,
    },
}
_COMMON_NUMBERS = {
    "open_tree": 428,
    "move_mount": 429,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    "fchmodat2": 452,
}

_HELD_NUMBERS = {
    "x86_64": {"socket": 41, "fcntl": 72, "chmod": 90, "fchmod": 91, "fchmodat": 268, "utimensat": 280},
    "aarch64": {"socket": 198, "fcntl": 25, "fchmod": 52, "fchmodat": 53, "utimensat": 88},
}
"""Calls that are reported to init (``notices.py``)."""

MACHINES = tuple(_NUMBERS)
"""The processors, as ``uname -m`` names them, whose system call numbers are known here."""

_MACHINE = os.uname().machine

_libc = ctypes.CDLL(None, use_errno=True)
_fork_libc = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock across a clone


def supported_machine() -> bool:
    """Whether this processor is one of ``MACHINES``."""
    return os.uname().machine in MACHINES


def exists(call: str) -> bool:
    """Whether this processor has a call that others have (``chmod``)."""
    return call in _HELD_NUMBERS.get(_MACHINE, ())


def number_of(call: str) -> int:
    """The number of a system call on this processor."""
    return _COMMON_NUMBERS.get(call) or (_NUMBERS[_MACHINE] | _HELD_NUMBERS[_MACHINE])[call]


def _check(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def syscall(name: str, *args: object) -> int:
    """Make a call by its name: integers are passed as wide as a register, bytes and buffers by their address."""
    number = number_of(name)
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in args]
    return _check(_libc.syscall(ctypes.c_long(number), *wide), name)


def clone(flags: int) -> int:
    """Fork into new namespaces: 0 in the child, else its pid. Only for a single thread that soon calls ``execve``."""
    number = ctypes.c_long(number_of("clone"))
    zero = ctypes.c_long(0)
    return _check(_fork_libc.syscall(number, ctypes.c_long(flags | 17), zero, zero, zero, zero), "clone")


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags`` for fresh ones."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int) -> None:
    """Join the namespace behind ``fd``."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount ``source`` (a device, a path or a mere name) at ``target``."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _check(result, f"mount {kind or 'bind'} on {target}")


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Make ``new_root`` the root of this mount namespace; the old one appears at ``put_old``."""
    syscall("pivot_root", os.fsencode(new_root), os.fsencode(put_old))


def clone_mount(path: str, *, below: bool = True) -> int:
    """A descriptor of a detached copy of the mounts at ``path`` and ``below``."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if below else 0)
    return syscall("open_tree", _AT_FDCWD, os.fsencode(path), flags)


def map_ids(fd: int, user_namespace: int) -> None:
    """Have a detached mount show each id of its file system as the one that the namespace maps it to."""
    attributes = struct.pack("QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
    syscall("mount_setattr", fd, b"", _AT_EMPTY_PATH, attributes, len(attributes))


def restrict_mount(fd: int, flags: int, *, below: bool = True) -> None:
    """Set ``flags`` (MS_RDONLY, MS_NOSUID, MS_NODEV: the same bits here) on a mount, and on those ``below`` it."""
    attributes = struct.pack("QQQQ", flags, 0, MS_PRIVATE, 0)  # what the host mounts later does not come into it
    how = _AT_EMPTY_PATH | (_AT_RECURSIVE if below else 0)
    syscall("mount_setattr", fd, b"", how, attributes, len(attributes))


def attach_mount(fd: int, target: str) -> None:
    """Put a detached tree at ``target``."""
    syscall("move_mount", fd, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)


def close_descriptors_from(first: int) -> None:
    """Close every descriptor from ``first`` up."""
    syscall("close_range", first, _LAST_DESCRIPTOR, 0)


def open_at(folder: int, path: bytes, flags: int, resolve: int) -> int:
    """Open ``path``, from ``folder`` on, with the bounds ``resolve`` (``RESOLVE_...``) on its way."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return syscall("openat2", folder, path, how, len(how))


def open_beneath(folder: int, path: bytes, flags: int) -> int:
    """Open ``path`` below ``folder``: no link is followed, no other file system is entered."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
    try:
        return open_at(folder, path, flags, resolve)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    return _walk_beneath(folder, path, flags)  # gVisor before its release of 2026-08-31 has no such call


def _walk_beneath(folder: int, path: bytes, flags: int) -> int:
    """The same promises, kept one name after the other."""
    if len(path) >= _PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    *folders, last = path.split(b"/")
    here = os.dup(folder)
    try:
        for name in folders:
            below = _open_entry(here, name, os.O_PATH | os.O_DIRECTORY)
            os.close(here)
            here = below
        return _open_entry(here, last, flags)
    finally:
        os.close(here)


def _open_entry(folder: int, name: bytes, flags: int) -> int:
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    if name == b".." or os.fstat(descriptor).st_dev != os.fstat(folder).st_dev:
        os.close(descriptor)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return descriptor


def rename_new(folder: int, name: bytes, target: int, new: bytes) -> None:
    """Move ``name`` in ``folder`` to ``new`` in ``target``. Raises ``FileExistsError`` where something is by then."""
    try:
        syscall("renameat2", folder, name, target, new, _RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL):  # EINVAL: the file system has no such rename
            raise
        _rename_linked(folder, name, target, new)


def _rename_linked(folder: int, name: bytes, target: int, new: bytes) -> None:
    """The same promise in two steps: a link is made only where nothing is. A folder replaces at most an empty one."""
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=target)
    else:
        os.link(name, new, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
        os.unlink(name, dir_fd=folder)


def _prctl(option: int, *args: int) -> int:
    padded = [ctypes.c_ulong(value) for value in (*args, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(ctypes.c_int(option), *padded), f"prctl {option}")


def clone_as_owner(flags: int, owner: int) -> int:
    """``clone``, with ``owner`` as the owner of a new user namespace: who its per-user counters are charged to.

    Only for root, which is root again afterwards; the child has the effective uid ``owner``.
    """
    _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)  # what it may do stays, whatever its effective uid is
    os.seteuid(owner)
    child = -1
    try:
        child = clone(flags)
    finally:
        if child != 0:
            os.seteuid(0)
            _prctl(_PR_SET_SECUREBITS, 0)
    return child


def renew_random_bytes() -> None:
    """Replace the random bytes that the kernel gave to this process's program at its start (``AT_RANDOM``)."""
    _libc.getauxval.restype = ctypes.c_ulong
    if place := _libc.getauxval(ctypes.c_ulong(_AT_RANDOM)):
        ctypes.memmove(place, os.urandom(_AT_RANDOM_BYTES), _AT_RANDOM_BYTES)


def die_with_parent() -> None:
    """Be killed when the parent dies. A change of uid clears it."""
    _prctl(_PR_SET_PDEATHSIG, 9)


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same uid may look into this one through /proc and ptrace."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants (in place of PID 1)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    """No exec may gain a privilege any more."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_bounding_capabilities() -> None:
    """No program started from here on can gain a capability."""
    for capability in range(LAST_CAPABILITY):
        try:
            _prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return
            raise


def keep_capabilities_across_exec() -> None:
    """Make every capability that is held inheritable and ambient, so that a non-root uid keeps it across exec."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    syscall("capget", header, data)
    effective, permitted, _, effective_high, permitted_high, _ = struct.unpack("6I", data.raw)
    wanted = struct.pack("6I", effective, permitted, permitted, effective_high, permitted_high, permitted_high)
    syscall("capset", header, wanted)
    held = permitted | permitted_high << 32
    for capability in range(LAST_CAPABILITY):
        if held >> capability & 1:
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def drop_capabilities() -> None:
    """Give up every capability, for good."""
    try:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a kernel that knows none has none to clear: gVisor before 2026-07-27
            raise
    syscall("capset", struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24))


def load_seccomp(program: bytes, flags: int = 0) -> int:
    """Install a BPF program (an array of ``struct sock_filter``) over this thread and its children.

    ``flags``: ``SECCOMP_FILTER_FLAG_...``; with ``NEW_LISTENER`` the result is a descriptor, which no exec inherits.
    """
    code = ctypes.create_string_buffer(program, len(program))
    filter_struct = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    return syscall("seccomp", _SECCOMP_SET_MODE_FILTER, flags, filter_struct)


def raise_loopback() -> None:
    """Bring up ``lo`` in this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(probe, siocgifflags, request))[1]
        fcntl.ioctl(probe, siocsifflags, struct.pack("16sH14x", b"lo", flags | iff_up))
