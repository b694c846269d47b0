"""Archives: made of files of the workspace, and taken apart into it."""

import os
import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from .content import replace, write_all
from .problem import Problem
from .tree import walk
from .workspace import Workspace, checked

_CHUNK = 256 * 1024
_MOST_RATIO = 200
"""How many times its size an archive may grow to; text compresses 10 to 20 times, a bomb a thousand times and more."""
_SMALL = 2**20


@dataclass(slots=True)
class _Budget:
    """What may still be written."""

    bytes_left: int
    entries_left: int

    def take_entry(self) -> None:
        self.entries_left -= 1
        if self.entries_left < 0:
            raise Problem(
                "too-large", "the archive has more entries than may be taken out of it; the rest was not written"
            )

    def take(self, count: int) -> None:
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise Problem("too-large", "what is in the archive is larger than may be written; the rest was not written")


def archive(workspace: Workspace, paths: list[str], output: int, *, form: str) -> dict[str, object]:
    """Write an archive (``zip`` or ``tar.gz``) of files and folders to ``output``; links and devices are left out."""
    count = 0
    with os.fdopen(os.dup(output), "wb") as stream:
        add, close = _OPENERS[form](stream)
        for path, status in _files(workspace, paths):
            file = workspace.open_file(path)
            with os.fdopen(file, "rb") as content:
                add(path, status, content)
            count += 1
        close()
    return {"files": count, "format": form}


def _files(workspace: Workspace, paths: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    for path in paths or [""]:
        if path:
            with workspace.at(path) as place:
                status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                yield path, status
                continue
        for entry, status in walk(workspace, path, 64):
            if stat.S_ISREG(status.st_mode):
                yield entry, status


_Add = Callable[[str, os.stat_result, IO[bytes]], None]


def _open_zip(stream: IO[bytes]) -> tuple[_Add, Callable[[], None]]:
    whole = zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED)

    def add(path: str, status: os.stat_result, content: IO[bytes]) -> None:
        info = zipfile.ZipInfo(os.fsencode(path).decode("utf-8", "replace"))
        info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, status.st_mode << 16
        with whole.open(info, "w", force_zip64=status.st_size > 2**31) as target:
            while chunk := content.read(_CHUNK):
                target.write(chunk)

    return add, whole.close


def _open_tar(stream: IO[bytes]) -> tuple[_Add, Callable[[], None]]:
    whole = tarfile.open(fileobj=stream, mode="w:gz")  # noqa: SIM115 - closed by the caller

    def add(path: str, status: os.stat_result, content: IO[bytes]) -> None:
        info = tarfile.TarInfo(path)
        info.size, info.mode, info.mtime = status.st_size, status.st_mode & 0o777, int(status.st_mtime)
        whole.addfile(info, content)

    return add, whole.close


_OPENERS = {"zip": _open_zip, "tar.gz": _open_tar}


def extract(workspace: Workspace, path: str, to: str, *, most_bytes: int, most_entries: int) -> dict[str, object]:
    """Take a zip or tar archive apart into the folder ``to``; what is not a file or a folder is left out and listed.

    Names that lead out of the folder are refused before anything is written; sizes are counted while they are written,
    for an archive may lie about them.
    """
    file = workspace.open_file(path)
    with os.fdopen(file, "rb") as stream:
        size = os.fstat(file).st_size
        allowed = min(most_bytes, max(_SMALL, size * _MOST_RATIO))
        budget = _Budget(allowed, most_entries)
        try:
            entries = _zip_entries(stream) if zipfile.is_zipfile(stream) else _tar_entries(stream)
            return _write_entries(workspace, entries, to, budget)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, RuntimeError) as error:
            raise Problem("bad-archive", f"{path!r} cannot be read as a zip or tar archive: {error}") from None


@dataclass(frozen=True, slots=True)
class _Entry:
    """``open`` is None for a folder; ``why`` is set for what is left out."""

    name: str
    open: Callable[[], IO[bytes]] | None
    executable: bool = False
    why: str | None = None


def _zip_entries(stream: IO[bytes]) -> list[_Entry]:
    stream.seek(0)
    whole = zipfile.ZipFile(stream)
    found = []
    for info in whole.infolist():
        mode = info.external_attr >> 16
        if stat.S_ISLNK(mode):
            found.append(_Entry(info.filename, None, why="it is a link"))
        elif info.is_dir():
            found.append(_Entry(info.filename, None))
        else:
            found.append(_Entry(info.filename, lambda info=info: whole.open(info), bool(mode & 0o100)))  # type: ignore[misc]
    return found


def _tar_entries(stream: IO[bytes]) -> list[_Entry]:
    stream.seek(0)
    whole = tarfile.open(fileobj=stream)  # noqa: SIM115 - it lives as long as the stream
    found = []
    for info in whole:
        if info.isdir():
            found.append(_Entry(info.name, None))
        elif info.isreg():
            found.append(_Entry(info.name, lambda info=info: _opened(whole, info), bool(info.mode & 0o100)))  # type: ignore[misc]
        else:
            found.append(_Entry(info.name, None, why="it is a link or a device"))
    return found


def _opened(whole: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = whole.extractfile(info)
    if content is None:
        raise tarfile.TarError(f"{info.name} has no content")
    return content


def _write_entries(workspace: Workspace, entries: list[_Entry], to: str, budget: _Budget) -> dict[str, object]:
    targets = [(_target(to, entry.name), entry) for entry in entries]
    written, left_out = [], []
    for target, entry in targets:
        budget.take_entry()
        if entry.why:
            left_out.append({"path": entry.name, "reason": entry.why})
        elif entry.open is None:
            with workspace.at(f"{target}/x", make=True):
                pass
        else:
            _write_entry(workspace, target, entry, budget)
            written.append(target)
    return {"files": written, "left_out": left_out}


def _target(to: str, name: str) -> str:
    """The path in the workspace. Raises ``Problem`` for one that leads out of ``to``."""
    plain = name.replace("\\", "/").rstrip("/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if plain.startswith("/") or ".." in parts or not parts:
        raise Problem(
            "bad-archive",
            f"the archive has an entry {name[:200]!r}, which leads out of the folder; nothing was written",
        )
    return checked(posixpath.join(to, *parts))


def _write_entry(workspace: Workspace, target: str, entry: _Entry, budget: _Budget) -> None:
    def fill(file: int, _: str) -> None:
        assert entry.open is not None  # noqa: S101 - asked before
        with entry.open() as content:
            while chunk := content.read(_CHUNK):
                budget.take(len(chunk))
                write_all(file, chunk)
        if entry.executable:
            os.fchmod(file, 0o755)

    with workspace.at(target, make=True) as place:
        replace(workspace, place, fill)
