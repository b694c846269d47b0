"""Files in and out of the workspace: written before the guest exists, read when it runs no more.

INVARIANT: a path inside the workspace is never opened by name from outside it: every open goes through ``openat2`` with
no link followed and no other file system entered, and only regular files are read, sizes taken from the descriptor.
"""

import json
import os
import stat
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import kernel

MAX_DEPTH = 32
MAX_VISITED = 10_000
MAX_LISTED = 200
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


class Part(NamedTuple):
    """A file's content: ``size`` bytes of the payload from ``offset``."""

    payload: int
    offset: int
    size: int


def fill(root: str, payload: int, body: dict[str, Any], uid: int) -> tuple[bytes, dict[str, Identity]]:
    """Write the code and the input files; the request for the worker, and what identifies each file as unchanged.

    ``payload`` holds a JSON header of ``body["header_bytes"]``, then the content of each file in the header's order.
    """
    header = json.loads(os.pread(payload, body["header_bytes"], 0))
    offset = body["header_bytes"]
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY)
    written = {}
    for path, size in header.pop("files"):
        _write(folder, path, Part(payload, offset, size), uid)
        offset += size
        written[path] = _identity(os.stat(path, dir_fd=folder, follow_symlinks=False))
    os.close(folder)
    header["file"] = os.path.join(root, header["file"])
    header["argv"] = [part.replace("\0file", header["file"]) for part in header["argv"]]
    return json.dumps(header).encode("ascii"), written


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
        offset, end = part.offset, part.offset + part.size
        while offset < end:
            copied = os.sendfile(target, part.payload, offset, end - offset)
            if copied == 0:
                raise EOFError(f"the payload ends within {path!r}")
            offset += copied
        os.fchown(target, uid, uid)
        # A program may change it within the tick of the clock in which it was written: its times would stay the same.
        before = time.time_ns() - _A_SECOND
        os.utime(target, ns=(before, before))
    finally:
        os.close(target)


def open_folder(root: str) -> int:
    """The workspace itself, to be collected later.

    INVARIANT: it is opened before the guest runs: afterwards its name may lead elsewhere (level ``confined``).
    """
    return os.open(root, _READ | os.O_DIRECTORY | os.O_CLOEXEC)


def collect(top: int, written: dict[str, Identity], body: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    """What the program created or changed below ``top``, which is closed.

    A bounded listing, and a memfd with the content of the files kept.
    """
    listing = _Listing(body["inline_bytes"], body["inline_total_bytes"])
    try:
        if os.fstat(top).st_mode & 0o700 != 0o700:
            os.fchmod(top, 0o700)  # the guest closed it
        for parent, path, entry in _walk(top, listing):
            listing.consider(parent, path, entry, written)
    finally:
        os.close(top)
    return {"files": listing.files, "skipped": listing.skipped, "unlisted": listing.unlisted}, listing.content


def _walk(top: int, listing: "_Listing") -> Iterator[tuple[int, bytes, "os.DirEntry[str]"]]:
    """Every entry that is not a folder, with an open descriptor of the folder that holds it; bounded in all ways."""
    waiting: list[tuple[bytes, int]] = [(b"", 0)]
    visited = 0
    while waiting:
        path, depth = waiting.pop()
        try:
            folder = _open(top, path or b".", os.O_DIRECTORY)
        except OSError as error:
            listing.skip(path, None, f"the folder cannot be opened ({os.strerror(error.errno or 0)})")
            continue
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    visited += 1
                    if visited > MAX_VISITED:
                        listing.unlisted += 1
                        return
                    child = os.path.join(path, os.fsencode(entry.name))
                    if not entry.is_dir(follow_symlinks=False):
                        yield folder, child, entry
                    elif depth + 1 >= MAX_DEPTH:
                        listing.skip(child, None, f"a folder more than {MAX_DEPTH} levels deep")
                    else:
                        waiting.append((child, depth + 1))
        finally:
            os.close(folder)


def _open(folder: int, path: bytes, kind: int) -> int:
    """Open to read; what its owner has locked is unlocked first, where this process is that owner (a container's)."""
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


class _Listing:
    """The files kept and those left out, within bounds of number and size."""

    def __init__(self, inline_bytes: int, inline_total_bytes: int) -> None:
        self.files: list[list[Any]] = []
        self.skipped: list[list[Any]] = []
        self.unlisted = 0
        self.content: int | None = None
        self._inline_bytes = inline_bytes
        self._left_bytes = inline_total_bytes
        self._listing_bytes = _LISTING_BYTES

    def consider(self, parent: int, path: bytes, entry: "os.DirEntry[str]", written: dict[str, Identity]) -> None:
        """Keep the file, or note why not; unchanged input files are passed over."""
        try:
            status = os.stat(entry.name, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            self.skip(path, None, f"it cannot be looked at ({os.strerror(error.errno or 0)})")
            return
        if written.get(os.fsdecode(path)) == _identity(status):
            return
        if not stat.S_ISREG(status.st_mode):
            self.skip(path, None, f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'not a regular file')}")
        elif status.st_size > self._inline_bytes:
            reason = f"it is larger than the {self._inline_bytes} bytes that an answer carries for one file"
            self.skip(path, status.st_size, reason)
        elif status.st_size > self._left_bytes or len(self.files) >= MAX_LISTED:
            self.skip(path, status.st_size, "the files before it filled the answer")
        elif self._has_room(path):
            self._keep(parent, path, os.fsencode(entry.name))

    def _keep(self, parent: int, path: bytes, name: bytes) -> None:
        try:
            file = _open(parent, name, 0)
        except OSError as error:
            self.skip(path, None, f"it cannot be read ({os.strerror(error.errno or 0)})")
            return
        with open(file, "rb", buffering=0) as source:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return
            content = source.read(self._inline_bytes)
        if self.content is None:
            self.content = os.memfd_create("files", os.MFD_CLOEXEC)
        os.write(self.content, content)
        self._left_bytes -= len(content)
        self.files.append([_shown(path), len(content)])

    def skip(self, path: bytes, size: int | None, reason: str) -> None:
        """Note something that is not handed back."""
        if len(self.skipped) >= MAX_LISTED:
            self.unlisted += 1
        elif self._has_room(path):
            self.skipped.append([_shown(path), size, reason])

    def _has_room(self, path: bytes) -> bool:
        self._listing_bytes -= 6 * len(path) + 100  # JSON may write a character as six
        if self._listing_bytes < 0:
            self.unlisted += 1
            return False
        return True


def _identity(status: os.stat_result) -> Identity:
    """Changes whenever the file is written or replaced: the guest cannot set a ctime, and within one tick of the clock,
    in which that may stay the same, a write still moves the time of the last change, which lay in the past.
    """
    return (status.st_ino, status.st_size, status.st_ctime_ns, status.st_mtime_ns)


def _shown(path: bytes) -> str:
    """The path as text; where it is not UTF-8, those bytes as ``%XX``."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(byte) if 0x20 < byte < 0x7F and byte != 0x25 else f"%{byte:02X}" for byte in path)
