"""The standard input of a session's cell: a file when all of it is known, else a named pipe.

An interpreter stays, so its input cannot be a pipe that ends: each cell has one of its own, by name.
"""

import contextlib
import os
import select
from dataclasses import dataclass
from typing import NamedTuple

from .workspace import Part, copy_part, give

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIPE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class InputPlace(NamedTuple):
    """A place for one input: ``name`` in the folder ``path``, whose descriptor is ``folder``.

    INVARIANT: the folder was opened before the guest was there, and no path is followed to it again: where the guest
    has init's uid (a container), it could have another folder under that path.
    """

    path: str
    folder: int
    name: str


@dataclass(slots=True)
class CellInput:
    """``path`` is what the interpreter opens, ``place`` where it is; None: nothing was made.

    ``writer``: the end of a pipe that nobody reads yet, or -1.
    """

    path: str
    place: InputPlace | None = None
    writer: int = -1

    def opened(self) -> bool:
        """Whether the interpreter has opened the pipe: until then its other end reports an error."""
        poll = select.poll()
        poll.register(self.writer, 0)
        return not poll.poll(0)

    def close(self) -> None:
        """Remove it; safe to call twice."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1
        if self.place:
            _remove(self.place)
            self.place = None


def file_of(place: InputPlace, part: Part, owner: int) -> CellInput:
    """A new file with ``part``, that ``owner`` may read. Raises ``OSError`` where it does not fit."""
    if part.size == 0:
        return CellInput(os.devnull)
    file = os.open(place.name, _NEW, 0o400, dir_fd=place.folder)
    try:
        copy_part(file, part, owner)
    except BaseException:
        _remove(place)
        raise
    finally:
        os.close(file)
    return CellInput(f"{place.path}/{place.name}", place)


def pipe_of(place: InputPlace, owner: int) -> CellInput:
    """A new named pipe, that ``owner`` may read; the server is to have its ``writer`` once it was opened."""
    os.mkfifo(place.name, 0o600, dir_fd=place.folder)
    try:
        both = os.open(place.name, os.O_RDWR | _PIPE, dir_fd=place.folder)
        try:
            give(both, owner)
            writer = os.open(place.name, os.O_WRONLY | _PIPE, dir_fd=place.folder)
        finally:
            os.close(both)
    except BaseException:
        _remove(place)
        raise
    return CellInput(f"{place.path}/{place.name}", place, writer)


def _remove(place: InputPlace) -> None:
    with contextlib.suppress(OSError):  # a guest with init's uid has removed it, or put something else there
        os.unlink(place.name, dir_fd=place.folder)
