"""Whole files: read, written, deleted."""

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from .problem import Problem, problem_of
from .workspace import Place, Workspace, facts_of, version_of

_CHUNK = 256 * 1024
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def stat_path(workspace: Workspace, path: str) -> dict[str, object]:
    """What is at ``path``: a listing's facts, and a file's entity tag."""
    with workspace.at(path) as place:
        status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        return facts_of(path, status)
    file = workspace.open_file(path)
    try:
        return version_of(file).facts(path)
    finally:
        os.close(file)


def read(
    workspace: Workspace, path: str, output: int, *, offset: int = 0, length: int | None = None, etag: str | None = None
) -> dict[str, object]:
    """Write ``length`` bytes of a file from ``offset`` on to ``output``; with ``etag`` only if it still has that.

    INVARIANT: what was written is of the content whose tag is returned, whoever writes to the file meanwhile.
    """
    file = workspace.open_file(path)
    try:
        version = version_of(file)
        if etag is not None and etag != version.tag:
            raise _changed(path, version.tag)
        end = version.size if length is None else min(version.size, offset + length)
        if version.content is not None:
            write_all(output, memoryview(version.content)[offset:end])
        else:
            _copy(file, output, offset, end)
            if (now := version_of(file).tag) != version.tag:
                raise _changed(path, now)
        return version.facts(path) | {"offset": offset, "length": max(0, end - offset)}
    finally:
        os.close(file)


def _changed(path: str, tag: str) -> Problem:
    return Problem("changed", f"{path!r} was changed meanwhile; read it again", etag=tag)


def _copy(file: int, output: int, offset: int, end: int) -> None:
    while offset < end and (chunk := os.pread(file, min(_CHUNK, end - offset), offset)):
        write_all(output, chunk)
        offset += len(chunk)


def write(
    workspace: Workspace,
    path: str,
    content: Iterator[bytes],
    *,
    most: int,
    if_match: str | None = None,
    only_new: bool = False,
) -> dict[str, object]:
    """Replace a file by ``content``, or make it, with the folders above it; at one stroke.

    ``if_match``: only a file with that entity tag; ``only_new``: only where nothing is.
    """
    with workspace.at(path, make=if_match is None) as place:
        return replace(workspace, place, _writer_of(content, most), if_match=if_match, only_new=only_new)


def replace(
    workspace: Workspace,
    place: Place,
    fill: Callable[[int, str], None],
    *,
    if_match: str | None = None,
    only_new: bool = False,
) -> dict[str, object]:
    """Put a new file at ``place``, which ``fill`` writes; nobody ever sees a part of it."""
    with _new_file(place.folder, 0o644) as (new, file):
        fill(file, place.path)
        if (mode := _mode_at(place)) is not None:
            os.fchmod(file, mode)
        _check(workspace, place, if_match)
        version = version_of(file)  # before anybody can find it by its name, and write to it
        workspace.rename(place.folder, new, place.folder, place.name, replacing=not only_new)
        if version.content is None:  # the tag of a large file changes with its name
            version = version_of(file)
        return version.facts(place.path)


def _writer_of(content: Iterator[bytes], most: int) -> Callable[[int, str], None]:
    def fill(file: int, path: str) -> None:
        written = 0
        for chunk in content:
            written += len(chunk)
            if written > most:
                raise Problem("too-large", f"{path!r} would be larger than {most} bytes, which is the most here")
            write_all(file, chunk)

    return fill


def _mode_at(place: Place) -> int | None:
    """The mode of the regular file that is there."""
    try:
        status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, os.strerror(21))
    return stat.S_IMODE(status.st_mode) & 0o777 if stat.S_ISREG(status.st_mode) else None


def _check(workspace: Workspace, place: Place, if_match: str | None) -> None:
    if if_match is None:
        return
    found = workspace.tag_at(place)
    if found is None:
        raise Problem("not-found", f"there is nothing at {place.path!r}")
    if if_match not in ("*", found):
        raise Problem("changed", f"{place.path!r} is not what it was when you read it", etag=found)


def _hidden_name() -> str:
    return f".new-{secrets.token_hex(8)}"


@contextmanager
def _new_file(folder: int, mode: int) -> Iterator[tuple[str, int]]:
    """A file that has no other name yet, and a descriptor of it; removed if the block fails.

    INVARIANT: also when the operation is cancelled (SIGINT) just as it is made.
    """
    name = _hidden_name()
    with _forgotten(folder, name):
        file = os.open(name, _NEW, mode, dir_fd=folder)
        try:
            yield name, file
        finally:
            os.close(file)


@contextmanager
def _forgotten(folder: int, name: str) -> Iterator[None]:
    """Remove what has been written as ``name`` if the block fails."""
    try:
        yield
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        raise


def delete(
    workspace: Workspace, path: str, *, recursive: bool = False, if_match: str | None = None
) -> dict[str, object]:
    """Remove a file, a link, or a folder: one with something in it only when it is to be ``recursive``."""
    with workspace.at(path) as place:
        status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            _check(workspace, place, if_match)
            os.unlink(place.name, dir_fd=place.folder)
        elif recursive:
            shutil.rmtree(place.name, dir_fd=place.folder)
        else:
            os.rmdir(place.name, dir_fd=place.folder)
    return facts_of(path, status)


def make_folder(workspace: Workspace, path: str) -> dict[str, object]:
    """Make a folder, with those above it; one that is there stays."""
    with workspace.at(f"{path}/x", make=True) as place:
        return facts_of(path, os.fstat(place.folder))


def copy(workspace: Workspace, path: str, to: str, *, overwrite: bool = False) -> dict[str, object]:
    """Copy a file, or a folder with all that is in it; links are copied as links."""
    _check_target(workspace, path, to, overwrite=overwrite)
    put = partial(workspace.rename, replacing=overwrite)
    with _made_at(to), workspace.at(path) as source, workspace.at(to, make=True) as target:
        _copy_entry(source.folder, source.name, target.folder, target.name, put)
        return facts_of(to, os.stat(target.name, dir_fd=target.folder, follow_symlinks=False))


def move(workspace: Workspace, path: str, to: str, *, overwrite: bool = False) -> dict[str, object]:
    """Move or rename a file or a folder."""
    _check_target(workspace, path, to, overwrite=overwrite)
    with _made_at(to), workspace.at(path) as source, workspace.at(to, make=True) as target:
        workspace.rename(source.folder, source.name, target.folder, target.name, replacing=overwrite)
        return facts_of(to, os.stat(target.name, dir_fd=target.folder, follow_symlinks=False))


def _check_target(workspace: Workspace, path: str, to: str, *, overwrite: bool) -> None:
    if f"{to}/".startswith(f"{path}/"):
        raise Problem("invalid", f"{path!r} cannot be put into itself")
    with workspace.at(path) as place:  # before a folder is made for what is not there
        os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    check_free(workspace, to, overwrite=overwrite)


def check_free(workspace: Workspace, path: str, *, overwrite: bool) -> None:
    """See that nothing is at ``path``, or a file that is to be overwritten. Raises ``OSError`` or ``Problem``."""
    try:
        with workspace.at(path) as place:
            status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not overwrite or stat.S_ISDIR(status.st_mode):
        raise _is_there(path)


@contextmanager
def _made_at(path: str) -> Iterator[None]:
    """Report what was made at ``path`` since ``check_free``, and is kept."""
    try:
        yield
    except FileExistsError:
        raise _is_there(path) from None


def _is_there(path: str) -> Problem:
    return Problem("exists", f"{path!r} is there already; name another target, or ask to overwrite a file")


_Put = Callable[[int, str, int, str], None]
"""Gives a copy that is complete its name: takes its folder and hidden name, the target's folder and name."""


def _copy_entry(folder: int, name: str, target: int, new: str, put: _Put) -> None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        hidden = _hidden_name()
        with _forgotten(target, hidden):
            os.symlink(os.readlink(name, dir_fd=folder), hidden, dir_fd=target)
            put(target, hidden, target, new)
    elif stat.S_ISDIR(status.st_mode):
        _copy_folder(folder, name, target, new, put)
    elif stat.S_ISREG(status.st_mode):
        _copy_file(folder, name, target, new, put)
    else:
        raise Problem("not-file", f"{name!r} is neither a file nor a folder, and cannot be copied")


def _copy_folder(folder: int, name: str, target: int, new: str, put: _Put) -> None:
    os.mkdir(new, 0o755, dir_fd=target)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    inside, below = os.open(name, flags, dir_fd=folder), os.open(new, flags, dir_fd=target)
    try:
        for entry in sorted(os.listdir(inside)):  # noqa: PTH208 - of a descriptor
            _copy_entry(inside, entry, below, entry, put)
    finally:
        os.close(inside)
        os.close(below)


def _copy_file(folder: int, name: str, target: int, new: str, put: _Put) -> None:
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        mode = stat.S_IMODE(os.fstat(source).st_mode) & 0o777
        with _new_file(target, mode) as (hidden, file):
            _copy(source, file, 0, os.fstat(source).st_size)
            os.fchmod(file, mode)
            put(target, hidden, target, new)
    finally:
        os.close(source)


def combine(
    workspace: Workspace, paths: list[str], to: str, *, headers: bool, most: int, overwrite: bool = False
) -> dict[str, object]:
    """Write several files one after the other into one; ``headers``: each below a line with its path."""
    check_free(workspace, to, overwrite=overwrite)

    def content() -> Iterator[bytes]:
        for path in paths:
            if headers:
                yield f"==> {path} <==\n".encode()
            file = _opened(workspace, path)
            try:
                ending, offset = b"", 0
                while chunk := os.pread(file, _CHUNK, offset):
                    offset, ending = offset + len(chunk), chunk[-1:]
                    yield chunk
                if headers and ending not in (b"", b"\n"):
                    yield b"\n"
            finally:
                os.close(file)

    return write(workspace, to, content(), most=most, only_new=not overwrite)


def _opened(workspace: Workspace, path: str) -> int:
    try:
        return workspace.open_file(path)
    except OSError as error:
        raise problem_of(error, path) from None


def write_all(file: int, data: bytes | memoryview) -> None:
    """Write all of ``data``."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
