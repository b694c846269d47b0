"""Modes and times of files, set by init where guests have the server's uid and see the host's own files.

There a guest's ``chmod`` or ``utime`` would reach every file of that uid: the server's, and other guests'. So the calls
are held (``notices.ATTRIBUTES``), and init makes them for files in the guest's own folder, and in the operator's that
is its workspace.

INVARIANT: init acts on the inode that it has opened and whose place it has looked at, never on a path, nor on what the
guest's memory says later. No file of the host enters the folder by another name: Landlock refuses links from outside.
"""

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from . import kernel
from .notices import ATTRIBUTES, Notice

_AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH, _AT_FDCWD = 0x100, 0x1000, -100
_PATH_MAX, _TIMES_BYTES = 4096, 32  # two struct timespec
_SPECIAL = 0o7000
"""INVARIANT: no file becomes one that runs with the server's id."""


class AttributeService:
    """Answers the calls that ``ATTRIBUTES`` hold, for files below ``folders``, whose paths have no links.

    ``answer`` ends a call with an errno, or 0; ``is_waiting`` says whether its caller still waits.
    """

    def __init__(
        self, folders: Iterable[str], answer: Callable[[Notice, int], None], is_waiting: Callable[[Notice], bool]
    ) -> None:
        self._below = tuple(os.path.join(folder, "") for folder in folders)
        self._answer = answer
        self._is_waiting = is_waiting

    def serve(self, notice: Notice) -> None:
        """Make the call, or refuse it as the kernel would; a file outside the folder with EPERM."""
        call = next(held.call for held in ATTRIBUTES if notice.is_of(held))
        first, second, third, flags, *_ = notice.arguments
        error = 0
        try:
            with ExitStack() as opened:
                caller = _Caller(notice.caller, opened)
                match call:
                    case "utimensat":
                        times = caller.read(third, _TIMES_BYTES) if third else None
                        self._set_times(notice, caller.open(first, second, flags), times)
                    case "chmod":
                        self._set_mode(notice, caller.open(_AT_FDCWD, first, 0), second)
                    case "fchmod":
                        self._set_mode(notice, caller.open(first, 0, 0), second)
                    case _:  # fchmodat has no flags: what its fourth register holds is by chance
                        self._set_mode(notice, caller.open(first, second, flags if call == "fchmodat2" else 0), third)
        except OSError as failure:
            error = failure.errno or errno.EPERM
        self._answer(notice, error)

    def _set_times(self, notice: Notice, file: int, times: bytes | None) -> None:
        self._check(notice, file)
        kernel.syscall("utimensat", file, b"", times, _AT_EMPTY_PATH)

    def _set_mode(self, notice: Notice, file: int, mode: int) -> None:
        if mode & _SPECIAL:
            raise PermissionError(errno.EPERM, "only the nine permissions")
        self._check(notice, file)
        os.chmod(f"/proc/self/fd/{file}", mode & 0o777)

    def _check(self, notice: Notice, file: int) -> None:
        if not os.readlink(f"/proc/self/fd/{file}").startswith(self._below):
            raise PermissionError(errno.EPERM, "not the guest's")
        if not self._is_waiting(notice):
            raise PermissionError(errno.EPERM, "the caller is gone: what was read may be somebody else's")


class _Caller:
    """A thread whose call is held, as ``/proc`` shows it. What is opened for it is closed with ``opened``."""

    def __init__(self, thread: int, opened: ExitStack) -> None:
        self._place = f"/proc/{thread}"
        self._opened = opened
        self._memory = self._keep(os.open(f"{self._place}/mem", os.O_RDONLY | os.O_CLOEXEC))

    def open(self, directory: int, path: int, flags: int) -> int:
        """A descriptor of what its arguments name, good for nothing but its inode; 0 for ``path`` is none."""
        flags &= 0xFFFF_FFFF
        if flags & ~(_AT_SYMLINK_NOFOLLOW | _AT_EMPTY_PATH):
            raise OSError(errno.EINVAL, "unknown flags")
        name = self._path(path) if path else b""
        if path and not name and not flags & _AT_EMPTY_PATH:
            raise FileNotFoundError(errno.ENOENT, "an empty path")
        start = self._keep(os.open("/", os.O_PATH | os.O_CLOEXEC) if name.startswith(b"/") else self._start(directory))
        if not name:
            return start
        how = os.O_PATH | (os.O_NOFOLLOW if flags & _AT_SYMLINK_NOFOLLOW else 0)
        # INVARIANT: a link in /proc to what init has open leads nowhere.
        return self._keep(kernel.open_at(start, name, how, kernel.RESOLVE_NO_MAGICLINKS))

    def read(self, place: int, size: int) -> bytes:
        """``size`` bytes of its memory."""
        content = self._read(place, size)
        if len(content) < size:
            raise OSError(errno.EFAULT, "no such address")
        return content

    def _path(self, place: int) -> bytes:
        name, end, _ = self._read(place, _PATH_MAX).partition(b"\0")
        if not end:
            raise OSError(errno.ENAMETOOLONG, "no end of the path")
        return name

    def _read(self, place: int, size: int) -> bytes:
        try:
            return os.pread(self._memory, size, place)
        except (OSError, OverflowError):
            raise OSError(errno.EFAULT, "no such address") from None

    def _start(self, directory: int) -> int:
        number = (directory & 0xFFFF_FFFF) - ((directory & 0x8000_0000) << 1)  # an int in a register
        name = "cwd" if number == _AT_FDCWD else f"fd/{number}"
        try:
            return os.open(f"{self._place}/{name}", os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            raise OSError(errno.EBADF, "no such descriptor") from None

    def _keep(self, descriptor: int) -> int:
        self._opened.callback(os.close, descriptor)
        return descriptor
