"""Archives: made of files of the workspace, and taken apart into it."""

import lzma
import os
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO

from .content import check_free, replace, write_all
from .problem import Problem, problem_of
from .tree import MOST_IN_NAMES, walk
from .workspace import Workspace, checked, shown

_CHUNK = 256 * 1024
_MOST_RATIO = 200
"""How many times its size an archive may grow to; text compresses 10 to 20 times, a bomb a thousand times and more."""
_SMALL = 2**20
_MOST_SHOWN = 200
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PACKED = (*_ZIP, b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
_TAR, _TAR_AT = b"ustar", 257
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    LookupError,
)
"""What the libraries raise for archives that are damaged, or were made to damage."""


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
    count, own = 0, _identity(output)
    with os.fdopen(os.dup(output), "wb") as stream, _OPENERS[form](stream) as add:
        for path, file in _files(workspace, paths):
            with os.fdopen(file, "rb") as content:
                if _identity(file) != own:  # the archive itself grows in one of the folders
                    add(path, os.fstat(file), content)
                    count += 1
    return {"files": count, "format": form}


def _identity(file: int) -> tuple[int, int]:
    status = os.fstat(file)
    return status.st_dev, status.st_ino


def _files(workspace: Workspace, paths: list[str]) -> Iterator[tuple[str, int]]:
    """The regular files of ``paths``, each once, open."""
    seen = set[str]()
    for path in paths or [""]:
        for entry in _below(workspace, path):
            if entry not in seen:
                seen.add(entry)
                if (file := _open_now(workspace, entry, gone_is_fine=entry != path)) is not None:
                    yield entry, file


def _below(workspace: Workspace, path: str) -> Iterator[str]:
    try:
        if path:
            with workspace.at(path) as place:
                status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                yield path
                return
        yield from (entry for entry, status in walk(workspace, path, whole=True) if stat.S_ISREG(status.st_mode))
    except OSError as error:
        raise problem_of(error, path) from None


def _open_now(workspace: Workspace, path: str, *, gone_is_fine: bool) -> int | None:
    """None for a file that was removed, or became something else, since its folder was listed."""
    try:
        return workspace.open_file(path)
    except OSError as error:
        problem = problem_of(error, path)
    except Problem as found:
        problem = found
    if gone_is_fine and problem.code in ("not-found", "not-file", "is-folder", "not-folder", "link"):
        return None
    raise problem


_Add = Callable[[str, os.stat_result, IO[bytes]], None]


@contextmanager
def _open_zip(stream: IO[bytes]) -> Iterator[_Add]:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as whole:

        def add(path: str, status: os.stat_result, content: IO[bytes]) -> None:
            info = zipfile.ZipInfo(shown(path))
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, status.st_mode << 16
            left = status.st_size  # and no more: a file that grows would have no end
            with whole.open(info, "w", force_zip64=left > 2**31) as target:
                while chunk := content.read(min(_CHUNK, left)):
                    left -= target.write(chunk)

        yield add


@contextmanager
def _open_tar(stream: IO[bytes]) -> Iterator[_Add]:
    with tarfile.open(fileobj=stream, mode="w:gz") as whole:

        def add(path: str, status: os.stat_result, content: IO[bytes]) -> None:
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.mtime = status.st_size, status.st_mode & 0o777, int(status.st_mtime)
            try:
                whole.addfile(info, content)
            except OSError as error:
                if error.errno is not None:
                    raise
                raise Problem("changed", f"{path!r} became shorter while it was packed; pack it again") from None

        yield add


_OPENERS: dict[str, Callable[[IO[bytes]], AbstractContextManager[_Add]]] = {"zip": _open_zip, "tar.gz": _open_tar}


def extract(
    workspace: Workspace, path: str, to: str, *, most_bytes: int, most_entries: int, overwrite: bool = False
) -> dict[str, object]:
    """Take a zip or tar archive apart into the folder ``to``; what is not a file or a folder is left out and listed.

    Names that lead out of the folder, and files that are there unless ``overwrite``, are refused before anything is
    written; sizes are counted while they are written as well, for an archive may lie about them.
    """
    file = workspace.open_file(path)
    with os.fdopen(file, "rb") as stream:
        allowed = min(most_bytes, max(_SMALL, os.fstat(file).st_size * _MOST_RATIO))
        try:
            read = _zip_entries if os.pread(file, 4, 0) in _ZIP else _tar_entries
            entries = _bounded(read(stream), _Budget(allowed, most_entries))
            return _write_entries(workspace, entries, to, _Budget(allowed, most_entries), overwrite=overwrite)
        except _BROKEN as error:
            raise _bad_archive(path, _why_broken(file, error)) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise _bad_archive(path, _why_broken(file, error)) from None


def _bad_archive(path: str, why: str) -> Problem:
    return Problem("bad-archive", f"{path!r} cannot be taken apart: {why}")


def _why_broken(file: int, error: Exception) -> str:
    """In plain words: what a library says of bytes means little to a caller."""
    head = os.pread(file, _TAR_AT + len(_TAR), 0)
    if not head:
        return "it is empty"
    if not head.startswith(_PACKED) and head[_TAR_AT:] != _TAR:
        return "it is neither a zip archive nor a tar archive (plain, or packed with gzip, bzip2 or xz)"
    if isinstance(error, NotImplementedError):
        return "it uses a compression that cannot be read here; pack it with the usual one (deflate)"
    return "it is damaged, or a part of it is missing; send or pack it again"


@dataclass(frozen=True, slots=True)
class _Entry:
    """``open`` is None for a folder; ``size`` is what the archive says; ``why`` is set for what is left out."""

    name: str
    open: Callable[[], IO[bytes]] | None
    size: int = 0
    executable: bool = False
    why: str | None = None


def _bounded(entries: Iterator[_Entry], budget: _Budget) -> list[_Entry]:
    """All of them. Raises ``Problem`` as soon as they are too many or too large by their own account."""
    found, names = [], _Budget(MOST_IN_NAMES, 0)
    for entry in entries:
        budget.take_entry()
        budget.take(entry.size)
        names.take(len(os.fsencode(entry.name)))
        found.append(entry)
    return found


def _zip_entries(stream: IO[bytes]) -> Iterator[_Entry]:
    whole = zipfile.ZipFile(stream)
    for info in whole.infolist():
        mode = info.external_attr >> 16
        if info.flag_bits & 1:
            raise Problem("bad-archive", "the archive is encrypted; pack it again without a password")
        if stat.S_ISLNK(mode):
            yield _Entry(info.filename, None, why="it is a link")
        elif info.is_dir():
            yield _Entry(info.filename, None)
        else:
            yield _Entry(info.filename, partial(whole.open, info), info.file_size, bool(mode & 0o100))


def _tar_entries(stream: IO[bytes]) -> Iterator[_Entry]:
    whole = tarfile.open(fileobj=stream)  # noqa: SIM115 - it lives as long as the stream
    for info in whole:
        if info.size < 0:
            raise tarfile.TarError("an entry has a negative size")
        if info.isdir():
            yield _Entry(info.name, None)
        elif info.isreg():
            yield _Entry(info.name, partial(_opened, whole, info), info.size, bool(info.mode & 0o100))
        else:
            yield _Entry(info.name, None, info.size, why="it is a link or a device")


def _opened(whole: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = whole.extractfile(info)
    if content is None:
        raise tarfile.TarError(f"{info.name} has no content")
    return content


def _write_entries(
    workspace: Workspace, entries: list[_Entry], to: str, budget: _Budget, *, overwrite: bool
) -> dict[str, object]:
    targets = [(_target(to, entry.name), entry) for entry in entries if entry.open or not _is_top(entry.name)]
    for target, entry in targets:
        if entry.open is not None:
            with _about(target):
                check_free(workspace, target, overwrite=overwrite)
    written, left_out = dict[str, None](), []
    for target, entry in targets:
        if entry.why:
            left_out.append({"path": shown(entry.name)[:_MOST_SHOWN], "reason": entry.why})
            continue
        replacing = overwrite or shown(target) in written
        with _about(target):
            _write_entry(workspace, target, entry, budget, replacing=replacing)
        if entry.open is not None:
            written[shown(target)] = None
    return {"files": list(written), "left_out": left_out}


@contextmanager
def _about(target: str) -> Iterator[None]:
    """Have the system's errors name ``target``."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise problem_of(error, target) from None


def _is_top(name: str) -> bool:
    """Whether it is ``.``, the folder that was packed, and with which many archives begin."""
    return bool(name) and not name.startswith("/") and set(name.split("/")) <= {"", "."}


def _target(to: str, name: str) -> str:
    """The path in the workspace. Raises ``Problem`` for one that leads out of ``to``."""
    plain = name.replace("\\", "/").rstrip("/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if plain.startswith("/") or ".." in parts or not parts:
        raise Problem(
            "bad-archive",
            f"the archive has an entry {name[:_MOST_SHOWN]!r}, which leads out of the folder; nothing was written",
        )
    return checked(posixpath.join(to, *parts))


def _write_entry(workspace: Workspace, target: str, entry: _Entry, budget: _Budget, *, replacing: bool) -> None:
    if entry.open is None:
        with workspace.at(f"{target}/x", make=True):
            return
    begin = entry.open

    def fill(file: int, _: str) -> None:
        with begin() as content:
            while chunk := content.read(_CHUNK):
                budget.take(len(chunk))
                write_all(file, chunk)
        if entry.executable:
            os.fchmod(file, 0o755)

    with workspace.at(target, make=True) as place:
        replace(workspace, place, fill, only_new=not replacing)
