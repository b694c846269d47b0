"""Files in and out of the workspace: written before the guest exists, read when it runs no more.

INVARIANT: a path inside the workspace is never opened by name from outside it: every open goes through ``openat2`` with
no link followed and no other file system entered, and only regular files are read, sizes taken from the descriptor.
"""

import contextlib
import os
import stat
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from ..protocol.codec import parse, render
from ..protocol.run import KeptFile, RunHeader, SkippedEntry, WorkerRequest
from . import kernel
from .moving import MOVED_AT_ONCE, move
from .rank import is_figure, rank

MAX_DEPTH = 32
MAX_VISITED = 10_000
MAX_NAMES = 2 * MAX_VISITED
"""Read of one folder before they are put in order: all that a workspace in memory has places for."""
MAX_LISTED = 200
MAX_OUTSIDE = 20
"""Listed of the folder for temporary files."""
_VISITED_OUTSIDE = 1000
_OUTSIDE = "/tmp/"  # noqa: S108 - as a program calls it; at ``confined`` it is elsewhere
_IS_OUTSIDE = "it is outside the workspace: write it to the current folder to get it back"
_LISTING_BYTES = 64 * 1024
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_A_SECOND = 10**9
Identity = tuple[int, ...]


class Listing(NamedTuple):
    """What is reported of the files, and a memfd with the content of those that are kept."""

    files: tuple[KeptFile, ...]
    skipped: tuple[SkippedEntry, ...]
    unlisted: int
    content: int | None


class Part(NamedTuple):
    """A file's content: ``size`` bytes of the payload from ``offset``."""

    payload: int
    offset: int
    size: int


def fill(root: str, payload: int, header_bytes: int, uid: int) -> tuple[bytes, dict[str, Identity]]:
    """Write the code and the input files; the request for the worker, and what identifies each file as unchanged.

    ``payload`` holds a ``RunHeader`` of ``header_bytes``, then the content of each file in the header's order.
    """
    header = parse(RunHeader, os.pread(payload, header_bytes, 0))
    offset = header_bytes
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY)
    written = {}
    for path, size in header.files:
        _write(folder, path, Part(payload, offset, size), uid)
        offset += size
        written[path] = identity(os.stat(path, dir_fd=folder, follow_symlinks=False))
    os.close(folder)
    file = os.path.join(root, header.file)
    argv = tuple(part.replace("\0file", file) for part in header.argv)
    return render(WorkerRequest(file, header.args, argv, header.env)), written


def _write(folder: int, path: str, part: Part, uid: int) -> None:
    parents = path.split("/")[:-1]
    for depth in range(1, len(parents) + 1):
        parent = "/".join(parents[:depth])
        try:
            os.mkdir(parent, 0o755, dir_fd=folder)
            os.chown(parent, uid, uid, dir_fd=folder)
        except FileExistsError:
            continue
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
    try:
        copy_part(target, part, uid)
    finally:
        os.close(target)


def copy_part(target: int, part: Part, uid: int | None) -> None:
    """Write ``part`` into a new file, which is given to ``uid``; None: it is its maker's."""
    offset, end = part.offset, part.offset + part.size
    while offset < end:
        copied = os.sendfile(target, part.payload, offset, end - offset)
        if copied == 0:
            raise EOFError("the payload ends within a file")
        offset += copied
    if uid is not None:
        give(target, uid)
    # A program may change it within the tick of the clock in which it was written: its times would stay the same.
    before = time.time_ns() - _A_SECOND
    os.utime(target, ns=(before, before))


def give(file: int, uid: int) -> None:
    """Make a new file ``uid``'s. What this process itself has made as ``uid`` is: its group may be another number."""
    if uid != os.geteuid():
        os.fchown(file, uid, uid)


def open_folder(root: str) -> int:
    """The workspace itself, to be collected later.

    INVARIANT: it is opened before the guest runs: afterwards its name may lead elsewhere (level ``confined``).
    """
    return os.open(root, _READ | os.O_DIRECTORY | os.O_CLOEXEC)


def collect(
    top: int,
    written: dict[str, Identity],
    inline_bytes: int,
    inline_total_bytes: int,
    temp: int | None = None,
    *,
    moving: bool = True,
    unlocking: bool = True,
) -> Listing:
    """What the program created or changed below ``top``, and what it left in ``temp``; both are closed.

    A bounded listing, in order of paths. The bounds are those of the files kept, each and all together. ``moving``:
    nobody needs them any more, so large ones are taken out of the workspace. ``unlocking``: what its owner has closed
    is opened; in a folder of the operator's nothing is changed.
    """
    listing = _Collection(inline_bytes, inline_total_bytes, moving=moving, unlocking=unlocking)
    try:
        if unlocking:
            _unlock_top(top)
        for parent, path, entry in _walk(top, listing):
            listing.consider(parent, path, entry, written)
        if temp is not None:
            listing.add_outside(_look_outside(temp))
        content = listing.finish(top)
    finally:
        os.close(top)
        if temp is not None:
            os.close(temp)
    return Listing(tuple(listing.files), tuple(listing.skipped), listing.unlisted, content)


def _unlock_top(folder: int) -> None:
    if os.fstat(folder).st_mode & 0o700 != 0o700:
        os.fchmod(folder, 0o700)  # the guest closed it


def _look_outside(temp: int) -> "_Collection":
    """The files that are lost with the folder for temporary files, as left out."""
    _unlock_top(temp)
    found = _Collection(0, 0)
    for parent, path, entry in _walk(temp, found, places=_VISITED_OUTSIDE):
        if entry.is_file(follow_symlinks=False):
            found.skip(path, _size(parent, entry), _IS_OUTSIDE)
    return found


def _size(parent: int, entry: "os.DirEntry[str]") -> int | None:
    try:
        return os.stat(entry.name, dir_fd=parent, follow_symlinks=False).st_size
    except OSError:
        return None  # it cannot be looked at; that it is there is reported all the same


def _walk(
    top: int, listing: "_Collection", places: int | None = None
) -> Iterator[tuple[int, bytes, "os.DirEntry[str]"]]:
    """Every entry that is not a folder, with an open descriptor of the folder that holds it; bounded in all ways.

    What is higher up comes first, and then what comes first by name; ``places`` are for so many entries.
    """
    waiting: deque[tuple[bytes, int]] = deque([(b"", 0)])
    places = MAX_VISITED if places is None else places
    while waiting and places:
        path, depth = waiting.popleft()
        try:
            folder = _open(top, path or b".", os.O_DIRECTORY, unlocking=listing.unlocking)
        except OSError as error:
            listing.skip(path, None, f"the folder cannot be opened ({os.strerror(error.errno or 0)})")
            continue
        try:
            entries = _in_order(folder)
            listing.unlisted += max(0, len(entries) - places)
            for entry in entries[:places]:
                child = os.path.join(path, os.fsencode(entry.name))
                if not entry.is_dir(follow_symlinks=False):
                    yield folder, child, entry
                elif depth + 1 >= MAX_DEPTH:
                    listing.skip(child, None, f"a folder more than {MAX_DEPTH} levels deep")
                else:
                    waiting.append((child, depth + 1))
            places = max(0, places - len(entries))
        finally:
            os.close(folder)
    listing.unlisted += len(waiting)


def walk_files(top: int, *, unlocking: bool = True) -> Iterator[tuple[str, os.stat_result]]:
    """Every file below ``top`` that can be looked at, by its path; as bounded as a collection."""
    for parent, path, entry in _walk(top, _Collection(0, 0, unlocking=unlocking)):
        with contextlib.suppress(OSError):
            yield os.fsdecode(path), os.stat(entry.name, dir_fd=parent, follow_symlinks=False)


def _in_order(folder: int) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return sorted(islice(entries, MAX_NAMES), key=lambda entry: entry.name)


def _open(folder: int, path: bytes, kind: int, *, unlocking: bool = True) -> int:
    """Open to read; what its owner has locked is unlocked first, where this process is that owner (a container's)."""
    if not unlocking:
        return kernel.open_beneath(folder, path, _READ | kind)
    try:
        opened = kernel.open_beneath(folder, path, _READ | kind)
    except PermissionError:
        _unlock(folder, path, kind)
        return kernel.open_beneath(folder, path, _READ | kind)
    if kind & os.O_DIRECTORY and os.fstat(opened).st_mode & 0o500 != 0o500:
        # Its names can be listed, and yet nothing about what they name can be asked.
        os.close(opened)
        _unlock(folder, path, kind)
        return kernel.open_beneath(folder, path, _READ | kind)
    return opened


def _unlock(folder: int, path: bytes, kind: int) -> None:
    locked = kernel.open_beneath(folder, path, os.O_PATH | os.O_NOFOLLOW | kind)
    try:
        status = os.fstat(locked)
        if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
            os.chmod(f"/proc/self/fd/{locked}", 0o700)  # by its descriptor: no name of the guest's is followed
    finally:
        os.close(locked)


def _open_to_move(folder: int, path: bytes, size: int) -> int:
    """Open a file to be moved: a large one for writing too, unless something stands against that."""
    if size > MOVED_AT_ONCE:
        with contextlib.suppress(OSError):  # such as a program that is held at its end; then it is copied
            return _open(folder, path, os.O_RDWR)
    return _open(folder, path, 0)


class _Collection:
    """The files kept and those left out, within bounds of number and size."""

    def __init__(
        self, inline_bytes: int, inline_total_bytes: int, *, moving: bool = True, unlocking: bool = True
    ) -> None:
        self._moving = moving
        self.unlocking = unlocking
        self.files: list[KeptFile] = []
        self.skipped: list[SkippedEntry] = []
        self.unlisted = 0
        self._inline_bytes = inline_bytes
        self._inline_total_bytes = inline_total_bytes
        self._listing_bytes = _LISTING_BYTES
        self._candidates: list[tuple[str, int, bytes]] = []
        self._left_out: list[tuple[str, int | None, str]] = []

    def consider(self, parent: int, path: bytes, entry: "os.DirEntry[str]", written: dict[str, Identity]) -> None:
        """Note the file as one to be kept, or why not; unchanged input files are passed over."""
        try:
            status = os.stat(entry.name, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            self.skip(path, None, f"it cannot be looked at ({os.strerror(error.errno or 0)})")
            return
        if written.get(os.fsdecode(path)) == identity(status):
            return
        if not stat.S_ISREG(status.st_mode):
            self.skip(path, None, f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'not a regular file')}")
        elif status.st_size > self._inline_bytes:
            reason = f"it is larger than the {self._inline_bytes} bytes that are kept of one file"
            self.skip(path, status.st_size, reason)
        else:
            self._candidates.append((_shown(path), status.st_size, path))

    def skip(self, path: bytes, size: int | None, reason: str) -> None:
        """Note something that is not handed back."""
        self._left_out.append((_shown(path), size, reason))

    def add_outside(self, found: "_Collection") -> None:
        """Note a few of what was ``found`` in the folder for temporary files; what is hidden there is a cache."""
        listed = sorted((one for one in found._left_out if not one[0].startswith(".")), key=lambda one: one[0])
        self._left_out += [(_OUTSIDE + shown, size, reason) for shown, size, reason in listed[:MAX_OUTSIDE]]
        self.unlisted += found.unlisted + len(listed[MAX_OUTSIDE:])

    def finish(self, top: int) -> int | None:
        """Keep as many as there is space for, figures and small ones first, and list the rest; the files' content.

        Figures get half of the space at most: how much of it the answer has for them is not known here, and what takes
        their places must be at hand.
        """
        chosen: list[tuple[str, int, bytes]] = []
        left = self._inline_total_bytes
        others = any(not is_figure(shown) for shown, _, _ in self._candidates)
        for shown, size, path in sorted(self._candidates, key=lambda one: rank(one[0], one[1])):
            reserved = self._inline_total_bytes // 2 if others and is_figure(shown) else 0
            if size > left - reserved or len(chosen) >= MAX_LISTED:
                self._left_out.append((shown, size, "the files before it took the room that there is for files"))
            elif self._fits(path):
                chosen.append((shown, size, path))
                left -= size
        content = self._hand_over(top, sorted(chosen)) if chosen else None
        self._list_left_out()
        return content

    def _hand_over(self, top: int, chosen: list[tuple[str, int, bytes]]) -> int:
        memory = os.memfd_create("files", os.MFD_CLOEXEC)
        for shown, size, path in chosen:
            try:
                file = _open_to_move(top, path, size) if self._moving else self._open(top, path)
            except OSError as error:
                self._left_out.append((shown, None, f"it cannot be read ({os.strerror(error.errno or 0)})"))
                continue
            try:
                self._keep(shown, size, file, memory)
            finally:
                os.close(file)
        return memory

    def _open(self, top: int, path: bytes) -> int:
        return _open(top, path, 0, unlocking=self.unlocking)

    def _keep(self, shown: str, size: int, file: int, memory: int) -> None:
        status = os.fstat(file)
        if stat.S_IFMT(status.st_mode) != stat.S_IFREG:  # it was replaced since it was chosen
            return
        start, moved = os.fstat(memory).st_size, min(status.st_size, size)
        emptying = self._moving and size > MOVED_AT_ONCE and status.st_nlink == 1
        try:
            move(file, memory, moved, emptying=emptying)
        except EOFError:  # an operation on the files of a session changed it
            os.ftruncate(memory, start)
            self._left_out.append((shown, None, "it was changed while it was read"))
        else:
            self.files.append((shown, moved))

    def _list_left_out(self) -> None:
        for shown, size, reason in sorted(self._left_out, key=lambda one: one[0]):
            if len(self.skipped) >= MAX_LISTED:
                self.unlisted += 1
            elif self._fits(shown.encode()):
                self.skipped.append((shown, size, reason))

    def _fits(self, path: bytes) -> bool:
        self._listing_bytes -= 6 * len(path) + 100  # JSON may write a character as six
        if self._listing_bytes < 0:
            self.unlisted += 1
            return False
        return True


def identity(status: os.stat_result) -> Identity:
    """What differs once the file was written or replaced.

    The guest cannot set a ctime, and within one tick of the clock, in which that may stay the same, a write still moves
    the time of the last change, which lay in the past.
    """
    return (status.st_ino, status.st_size, status.st_ctime_ns, status.st_mtime_ns)


def _shown(path: bytes) -> str:
    """The path as text; where it is not UTF-8, those bytes as ``%XX``."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(byte) if 0x20 < byte < 0x7F and byte != 0x25 else f"%{byte:02X}" for byte in path)
