"""The workspace as operations see it: paths below one folder, opened without following a link."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from .problem import Problem

MOST_HASHED = 8 * 2**20
"""Files up to this size have an entity tag of their content, larger ones of what the system says of them."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is, or is to be: an open folder, and the name in it. The folder is closed by ``Workspace.at``."""

    folder: int
    name: str
    path: str


class Kernel(Protocol):
    """What Python does not offer of the kernel."""

    def open_beneath(self, folder: int, path: bytes, flags: int, /) -> int:
        """Open ``path`` below ``folder``, with flags of open(2). Follows no link, stays in one file system."""

    def rename_new(self, folder: int, name: bytes, target: int, new: bytes, /) -> None:
        """Move an entry from a folder to another. Raises ``FileExistsError`` where something is."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """``top`` is a descriptor of its folder."""

    top: int
    kernel: Kernel

    def open_file(self, path: str) -> int:
        """A regular file, to be read. Raises ``OSError`` or ``Problem``."""
        return self._regular(self.top, checked(path), path)

    def _regular(self, folder: int, name: str, path: str) -> int:
        file = self.kernel.open_beneath(folder, os.fsencode(name), _READ)
        status = os.fstat(file)
        if stat.S_ISREG(status.st_mode):
            return file
        os.close(file)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, os.strerror(21))
        raise Problem("not-file", f"{path!r} is no regular file")

    def open_folder(self, path: str) -> int:
        """A folder; "" is the workspace itself. Raises ``OSError`` or ``Problem``."""
        return self.kernel.open_beneath(self.top, os.fsencode(checked(path)) if path else b".", _FOLDER)

    @contextlib.contextmanager
    def at(self, path: str, *, make: bool = False) -> Iterator[Place]:
        """The place of ``path``; ``make``: with the folders above it. Raises ``OSError`` or ``Problem``."""
        above, _, name = checked(path).rpartition("/")
        if make and above:
            self._make_folders(above)
        folder = self.open_folder(above)
        try:
            yield Place(folder, name, path)
        finally:
            os.close(folder)

    def _make_folders(self, path: str) -> None:
        folder = self.open_folder("")
        try:
            for name in path.split("/"):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=folder)
                below = self.kernel.open_beneath(folder, os.fsencode(name), _FOLDER)
                os.close(folder)
                folder = below
        finally:
            os.close(folder)

    def rename(self, folder: int, name: str, target: int, new: str, *, replacing: bool) -> None:
        """Move an entry; without ``replacing`` raises ``FileExistsError`` where something is, since however short."""
        if replacing:
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=target)
        else:
            self.kernel.rename_new(folder, os.fsencode(name), target, os.fsencode(new))

    def tag_at(self, place: Place) -> str | None:
        """The entity tag of a file; None where nothing is. Raises ``OSError`` or ``Problem`` for anything else."""
        try:
            file = self._regular(place.folder, place.name, place.path)
        except FileNotFoundError:
            return None
        try:
            return version_of(file).tag
        finally:
            os.close(file)


def checked(path: object) -> str:
    """``path``, if it is a relative one that goes down only. Raises ``Problem``."""
    if not isinstance(path, str) or not path or "\0" in path:
        raise Problem("invalid", "a path is a text that is not empty and has no NUL")
    if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        raise Problem("invalid", f"{path!r} is not a relative path below the workspace, such as data/in.csv")
    return path


def facts_of(path: str, status: os.stat_result) -> dict[str, object]:
    """What a listing says of an entry."""
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
    return {"path": shown(path), "type": kind, "size": status.st_size, "modified": status.st_mtime_ns / 1e9}


@dataclass(frozen=True, slots=True)
class Version:
    """A file as it was at one time; ``content`` is None for one that is larger than ``MOST_HASHED``.

    INVARIANT: size, tag and content belong together, whoever writes to the file meanwhile. Two contents do not share a
    tag, but for large files within a tick of the clock.
    """

    status: os.stat_result
    size: int
    tag: str
    content: bytes | None

    def facts(self, path: str) -> dict[str, object]:
        """What a listing says of it, and its tag."""
        return facts_of(path, self.status) | {"size": self.size, "etag": self.tag}


def version_of(file: int) -> Version:
    """That of an open file now."""
    status = os.fstat(file)
    if status.st_size <= MOST_HASHED:
        content = head_of(file, MOST_HASHED + 1)
        if len(content) <= MOST_HASHED:
            return Version(status, len(content), tag_of_content(content), content)
        status = os.fstat(file)  # it has grown meanwhile
    tag = f"s{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}"
    return Version(status, status.st_size, tag, None)


def tag_of_content(content: bytes) -> str:
    """That of a file of at most ``MOST_HASHED`` bytes with this content."""
    return sha256(content).hexdigest()[:32]


def head_of(file: int, most: int) -> bytes:
    """The first bytes of an open file, at most so many."""
    content = bytearray()
    while len(content) < most and (chunk := os.pread(file, most - len(content), len(content))):
        content += chunk
    return bytes(content)


def shown(path: str) -> str:
    """The path as JSON can carry it: bytes that are no UTF-8 are U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")
