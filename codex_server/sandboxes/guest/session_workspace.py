"""The workspace of a session: files written beside a live guest, which stands still, and what a cell has changed.

INVARIANT: no name inside the workspace is followed from outside of it: every folder on the way is opened by
``openat2`` below the one before, and no link is followed.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence

from ..protocol.session import Given
from . import kernel
from .workspace import Identity, Part, copy_part, identity, walk_files

_TICK_SECONDS = 0.01
"""Longer than a tick of the clock that files are marked with."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FilesRefused(Exception):
    """What a cell is given cannot be written, and so it is not run; the text says what and why.

    ``given``: which field of a request it came in.
    """

    def __init__(self, text: str, given: Given = "files") -> None:
        super().__init__(text)
        self.given: Given = given


def add_files(top: int, payload: int, offset: int, files: Sequence[tuple[str, int]], owner: int | None) -> None:
    """Write ``files`` of ``payload``, from ``offset`` on, in place of those that are there. Raises ``FilesRefused``.

    ``owner``: whose they are to be; None: whose this process acts as.
    """
    for path, size in files:
        try:
            _add(top, path, Part(payload, offset, size), owner)
        except OSError as error:
            raise FilesRefused(f"{path!r} cannot be written: {os.strerror(error.errno or 0)}") from error
        offset += size


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Have the effective ids ``uid``, and no privilege, meanwhile: in a mount with mapped ids nobody else can write."""
    before = os.geteuid(), os.getegid()
    if before[0] == uid:
        yield
        return
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])


def _add(top: int, path: str, part: Part, owner: int | None) -> None:
    *parents, name = path.split("/")
    folder = os.dup(top)
    try:
        for parent in parents:
            below = _enter(folder, parent, owner)
            os.close(folder)
            folder = below
        _replace(folder, name, part, owner)
    finally:
        os.close(folder)


def _enter(folder: int, name: str, owner: int | None) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=folder)
        # INVARIANT: in a folder that others write to meanwhile, nothing is given away by its name.
        if owner is not None:
            os.chown(name, owner, owner, dir_fd=folder, follow_symlinks=False)
    return kernel.open_beneath(folder, os.fsencode(name), _FOLDER)


def _replace(folder: int, name: str, part: Part, owner: int | None) -> None:
    """Under a name of its own first: a file that others have open, or know by a second name, keeps its content."""
    new = f".new-{secrets.token_hex(8)}"
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
    try:
        copy_part(file, part, owner)
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(new, dir_fd=folder)
        raise
    finally:
        os.close(file)


def snapshot(top: int, *, unlocking: bool = True) -> dict[str, Identity]:
    """What identifies each file as unchanged, by its path; taken before a cell, while nobody runs.

    ``unlocking``: see ``workspace.collect``.

    A file that was written within the last tick of the clock could be written again in the same one: it is waited for.
    """
    found, newest = {}, 0
    for path, status in walk_files(top, unlocking=unlocking):
        found[path] = identity(status)
        newest = max(newest, status.st_mtime_ns, status.st_ctime_ns)
    if newest > time.time_ns() - int(_TICK_SECONDS * 1e9):
        time.sleep(_TICK_SECONDS)
    return found
