"""The standard input of a session's cell: a file when all of it is known, else a named pipe.

An interpreter stays, so its input cannot be a pipe that ends: each cell has one of its own, by name.
"""

import contextlib
import os
import select
from dataclasses import dataclass

from .workspace import Part, copy_part


@dataclass(slots=True)
class CellInput:
    """``path`` is what the interpreter opens. ``writer``: the end of a pipe that nobody reads yet, or -1."""

    path: str
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
        if self.path not in ("", os.devnull):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            self.path = ""


def file_of(path: str, part: Part, owner: int) -> CellInput:
    """The file ``path`` with ``part``, that ``owner`` may read. Raises ``OSError`` where it does not fit."""
    if part.size == 0:
        return CellInput(os.devnull)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    try:
        copy_part(file, part, owner)
    finally:
        os.close(file)
    return CellInput(path)


def pipe_of(path: str, owner: int) -> CellInput:
    """The named pipe ``path``, that ``owner`` may read; the server is to have its ``writer`` once it was opened."""
    os.mkfifo(path, 0o600)
    both = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.fchown(both, owner, owner)
        return CellInput(path, os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK))
    finally:
        os.close(both)
