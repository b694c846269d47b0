"""The channel of an interpreter that stays: cells come, replies go. Its descriptors are out of the program's way."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fcntl import F_DUPFD_CLOEXEC, fcntl
from json import loads
from os import dup2, fstat, read, write
from typing import Any

_HIGH = 32
"""So far below the highest descriptor are ours: a program gets the lowest that is free."""
_FIELDS = 4
_CHUNK = 2**16


@dataclass(frozen=True)
class Cell:
    """One piece of code. ``stdin`` is the path of its standard input; ``number`` counts the session's cells."""

    stdin: str
    number: int
    options: Mapping[str, Any]
    code: str

    @property
    def file(self) -> str:
        """The name of its code in tracebacks: its own, by which the lines of earlier cells are still found."""
        return f"<cell {self.number}>"

    @property
    def argv(self) -> list[str]:
        """The program's name and arguments."""
        return [str(self.options.get("file", "")), *self.options.get("args", ())]


class Channel:
    """Takes ``descriptor`` and copies of standard output and standard error away to high numbers."""

    def __init__(self, descriptor: int) -> None:
        self._socket = _lift(descriptor)
        os.close(descriptor)
        self._outputs = {target: _lift(target) for target in (1, 2)}
        os.register_at_fork(after_in_child=self._forget)

    def ready(self) -> None:
        """Report that cells may come."""
        self._send(b"R")

    def receive(self) -> Cell | None:
        """The next cell; None when no more will come."""
        received = bytearray()
        while received.count(0) < _FIELDS:
            part = read(self._socket, _CHUNK)
            if not part:
                return None
            received += part
        stdin, number, options, code = received.decode("utf-8", "replace").split("\0")[:_FIELDS]
        return Cell(stdin, int(number), loads(options), code)

    def reply(self, content: bytes) -> None:
        """Report what became of the cell."""
        self._send(content + b"\0")

    def restore_streams(self, stdin: str) -> None:
        """Have descriptor 0 read from ``stdin``, and 1 and 2 be what they were, whatever the program did to them."""
        opened = os.open(stdin or os.devnull, os.O_RDONLY)
        if opened != 0:
            dup2(opened, 0)
            os.close(opened)
        for target, kept in self._outputs.items():
            if not _is_same(target, kept):
                dup2(kept, target)

    def _send(self, content: bytes) -> None:
        waiting = memoryview(content)
        while waiting:
            waiting = waiting[write(self._socket, waiting) :]

    def _forget(self) -> None:
        """In a child of the program: what belongs to its parent alone is closed."""
        for descriptor in (self._socket, *self._outputs.values()):
            try:
                os.close(descriptor)
            except OSError:  # the program has closed all that it found
                continue


def _lift(descriptor: int) -> int:
    """A copy with a high number that no program which is executed inherits."""
    return fcntl(descriptor, F_DUPFD_CLOEXEC, max(os.sysconf("SC_OPEN_MAX") - _HIGH, _HIGH))


def _is_same(one: int, other: int) -> bool:
    try:
        first, second = fstat(one), fstat(other)
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
