"""Locks on parts of files (``fcntl`` with F_SETLK, F_SETLKW, F_GETLK), kept by init where the files are the host's own.

Only processes of one guest share files there, so it is enough that they exclude one another: the kernel is never asked
for a lock, and none lies on a file of the host. What a lock means is what POSIX says of it: it belongs to a process,
which cannot exclude itself, and ends with the process or with its last descriptor of the file. SQLite works with them.

INVARIANT: nothing that a guest says or changes meanwhile has an effect beyond this table: a caller that swaps the
descriptor under its own call gets a lock on another file in the table, and on none of the kernel's.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from . import procfs
from .notices import Notice

PAUSE_SECONDS = 0.01
"""How long one that waits for a lock waits until it is looked at again."""
_FLOCK = struct.Struct("hh4xqqi4x")  # struct flock: type, whence, start, length, pid
_READ, _WRITE, _NONE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
_END = 2**63 - 1
_MOST = 10_000
"""Locks of one guest: more than a program has, and few enough to be looked through."""

File = tuple[int, int]
"""Device and inode."""
Owner = tuple[int, str]
"""A process: its number, and when it was started, for numbers are given again."""


class Lock(NamedTuple):
    """``first`` to ``last`` byte of a file, held by ``owner``."""

    owner: Owner
    kind: int
    first: int
    last: int

    def meets(self, other: "Lock") -> bool:
        """Whether the two have a byte in common."""
        return self.first <= other.last and other.first <= self.last

    def excludes(self, other: "Lock") -> bool:
        """Whether the two cannot be held at once."""
        return self.owner != other.owner and self.meets(other) and _WRITE in (self.kind, other.kind)

    def without(self, other: "Lock") -> Iterator["Lock"]:
        """What is left of it when ``other``'s bytes are taken out."""
        if self.first < other.first:
            yield self._replace(last=min(self.last, other.first - 1))
        if self.last > other.last:
            yield self._replace(first=max(self.first, other.last + 1))


def _holds(owner: Owner, file: File) -> bool:
    """Whether a process still runs and has a descriptor of the file."""
    pid = owner[0]
    try:
        if procfs.process_of(pid) != owner:
            return False
        for name in os.listdir(f"/proc/{pid}/fd"):
            status = os.stat(f"/proc/{pid}/fd/{name}")
            if (status.st_dev, status.st_ino) == file:
                return True
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False


@dataclass(slots=True)
class Locks:
    """The locks of one guest. ``is_held`` says whether an owner still has a descriptor of a file."""

    is_held: Callable[[Owner, File], bool] = _holds
    _held: dict[File, list[Lock]] = field(default_factory=dict)

    def obstacle(self, file: File, wish: Lock) -> Lock | None:
        """A lock that stands in the way of ``wish``; those of processes that let go of the file are forgotten."""
        for lock in [lock for lock in self._held.get(file, ()) if lock.excludes(wish)]:
            if self.is_held(lock.owner, file):
                return lock
            self._held[file] = [other for other in self._held[file] if other.owner != lock.owner]
        return None

    def set(self, file: File, wish: Lock) -> int:
        """Take the lock, or let go where its kind is F_UNLCK: 0, or the errno of a refusal."""
        if wish.kind != _NONE and self.obstacle(file, wish):
            return errno.EAGAIN
        kept: list[Lock] = []
        for lock in self._held.get(file, ()):
            kept += lock.without(wish) if lock.owner == wish.owner and lock.meets(wish) else (lock,)
        if wish.kind != _NONE:
            kept.append(wish)
        if sum(map(len, self._held.values())) - len(self._held.get(file, ())) + len(kept) > _MOST:
            return errno.ENOLCK
        self._held[file] = kept
        return 0


class Asker:
    """A thread that asks, as ``/proc`` shows it while its call is held. Raises ``OSError`` where it may not be seen.

    INVARIANT: all is opened and read under its number first, then it must still wait: a number is given again when a
    thread has died, and what init writes then would go into a stranger's memory.
    """

    def __init__(self, notice: Notice) -> None:
        thread, descriptor = notice.caller, notice.arguments[0] & 0xFFFF_FFFF
        self.command = notice.arguments[1] & 0xFFFF_FFFF
        self._place = notice.arguments[2]
        self._owner = procfs.process_of(thread)
        self._status = os.stat(f"/proc/{thread}/fd/{descriptor}")
        with open(f"/proc/{thread}/fdinfo/{descriptor}", encoding="ascii") as file:
            facts = dict(line.split(":", 1) for line in file if ":" in line)
        flags = int(facts["flags"], 8)
        self._mode, self._position = flags & os.O_ACCMODE, int(facts["pos"])
        if flags & os.O_PATH:
            raise OSError(errno.ENOENT, "a descriptor that is no open file")
        self._memory = os.open(f"/proc/{thread}/mem", os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of its memory."""
        os.close(self._memory)

    @property
    def file(self) -> File:
        """What its descriptor leads to."""
        return self._status.st_dev, self._status.st_ino

    def wish(self) -> Lock:
        """The lock that it asks for. Raises ``OSError`` with the errno that the kernel would give."""
        content = os.pread(self._memory, _FLOCK.size, self._place) if self._place <= _END else b""
        if len(content) < _FLOCK.size:
            raise OSError(errno.EFAULT, "no such address")
        kind, whence, start, length, _ = _FLOCK.unpack(content)
        if kind not in (_READ, _WRITE, _NONE) or whence not in (0, 1, 2):
            raise OSError(errno.EINVAL, "no such lock")
        if (kind, self._mode) in ((_READ, os.O_WRONLY), (_WRITE, os.O_RDONLY)) and self.command != fcntl.F_GETLK:
            raise OSError(errno.EBADF, "the descriptor is not open for that")
        first = start + (0, self._position, self._status.st_size)[whence]
        first, last = (first, first + length - 1) if length > 0 else (first + length, first - 1)
        last = _END if length == 0 else last
        if not 0 <= first <= last <= _END:
            raise OSError(errno.EINVAL, "no such bytes")
        return Lock(self._owner, kind, first, last)

    def report(self, obstacle: Lock | None) -> None:
        """Answer F_GETLK: write what stands in the way, or that nothing does, where the caller wants it."""
        answer = struct.pack("h", _NONE)
        if obstacle is not None:
            length = 0 if obstacle.last == _END else obstacle.last - obstacle.first + 1
            answer = _FLOCK.pack(obstacle.kind, 0, obstacle.first, length, obstacle.owner[0])
        os.pwrite(self._memory, answer, self._place)


class LockService:
    """Answers the calls that ``notices.LOCKS`` holds.

    ``answer`` ends a call with an errno, or 0; ``is_waiting`` says whether its caller still waits. Workers of one guest
    share ``locks``.
    """

    def __init__(
        self, answer: Callable[[Notice, int], None], is_waiting: Callable[[Notice], bool], locks: Locks | None = None
    ) -> None:
        self._answer = answer
        self._is_waiting = is_waiting
        self._locks = locks or Locks()
        self._waiting: list[Notice] = []

    @property
    def waits(self) -> bool:
        """Whether anybody waits for a lock."""
        return bool(self._waiting)

    def serve(self, notice: Notice) -> None:
        """Answer one call, or keep it waiting."""
        error = self._outcome(notice)
        if error == errno.EAGAIN and notice.arguments[1] & 0xFFFF_FFFF == fcntl.F_SETLKW:
            self._waiting.append(notice)
        else:
            self._answer(notice, error)

    def serve_waiting(self) -> None:
        """Answer those whose lock has become free, and forget those who left."""
        waiting, self._waiting = self._waiting, []
        for notice in filter(self._is_waiting, waiting):
            self.serve(notice)

    def _outcome(self, notice: Notice) -> int:
        try:
            asker = Asker(notice)
        except OSError as failure:
            return errno.EBADF if failure.errno == errno.ENOENT else errno.EPERM
        try:
            return self._set(asker) if self._is_waiting(notice) else errno.EPERM
        except OSError as failure:
            return failure.errno if failure.errno in (errno.EINVAL, errno.EBADF) else errno.EFAULT
        finally:
            asker.close()

    def _set(self, asker: Asker) -> int:
        wish = asker.wish()
        if asker.command != fcntl.F_GETLK:
            return self._locks.set(asker.file, wish)
        asker.report(self._locks.obstacle(asker.file, wish))
        return 0
