"""A program's standard input: what is known at the start, and what is written while it runs."""

import asyncio
from collections.abc import Callable
from typing import Self

from codex_server.errors import InputRefused
from codex_server.model import Execution

MOST_WAITING = 2**20
"""Bytes that may wait for a program to read them; what is known at the start is not counted."""
_AHEAD = 2**19
"""Bytes that ``feed`` lets wait."""
_KEY_OF_THE_END = b"\x04\x04"
"""Ctrl-D at a terminal, which can stay open: the first one sends a line that was not ended, the next one is the end."""


def _ignore() -> None:
    """Nobody reads yet."""


class StandardInput:
    """Bytes on their way to a program. It ends when it is closed and everything was taken.

    ``content`` is known at the start; only with ``keep_open`` can more be written. The sandbox takes what it can pass
    on, and is called back when there is more. ``end`` is sent last, where the end has to be typed.
    """

    def __init__(self, content: bytes = b"", *, keep_open: bool = False, end: bytes = b"") -> None:
        self._content = memoryview(content)
        self._written = bytearray(b"" if keep_open else end)
        self._end = end
        self._closed = not keep_open
        self._kept_open = keep_open
        self._abandoned = False
        self._changed: Callable[[], None] = _ignore
        self._taken: asyncio.Event | None = None  # for ``feed``
        self.passed = 0
        """How many bytes were passed on."""

    @classmethod
    def of(cls, execution: Execution) -> Self:
        """That of ``execution``."""
        end = _KEY_OF_THE_END if execution.stdio.terminal else b""
        return cls(execution.stdin, keep_open=execution.keep_stdin_open, end=end)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to take and nothing more can come."""
        return self._closed and not self._content and not self._written

    def write(self, data: bytes) -> None:
        """Add ``data``. Raises ``InputRefused`` when it cannot reach the program, or too much waits already."""
        self._check_open()
        if len(data) > MOST_WAITING:
            raise InputRefused(f"there are {len(data)} bytes; send at most {MOST_WAITING} at once, piece by piece")
        if len(self._written) + len(data) > MOST_WAITING:
            raise InputRefused(
                f"the program has not read what was sent before: {len(self._written)} bytes wait, and at most "
                f"{MOST_WAITING} may; send this again when it has read them"
            )
        self._written += data
        self._changed()

    async def feed(self, data: bytes) -> None:
        """Add ``data`` as fast as the program takes it. Raises ``InputRefused`` when it takes no more."""
        self._taken = self._taken or asyncio.Event()
        for start in range(0, len(data), _AHEAD):
            while len(self._written) >= _AHEAD and not self._abandoned:
                self._taken.clear()
                await self._taken.wait()
            self.write(data[start : start + _AHEAD])

    def close(self) -> None:
        """End it after what was written. Raises ``InputRefused`` when it is closed already."""
        self._check_open()
        self._written += self._end
        self._closed = True
        self._changed()

    def read_by(self, changed: Callable[[], None]) -> None:
        """For the sandbox: have ``changed`` called whenever there is more to take, or the end came nearer."""
        self._changed = changed

    def peek(self, most: int) -> memoryview | bytes:
        """For the sandbox: the next bytes, at most so many; empty when none wait now."""
        return self._content[:most] or bytes(self._written[:most])

    def take(self, count: int) -> None:
        """For the sandbox: the next ``count`` bytes were passed on."""
        self.passed += count
        from_content = min(count, len(self._content))
        self._content = self._content[from_content:]
        del self._written[: count - from_content]
        if self._taken:
            self._taken.set()

    def abandon(self) -> None:
        """For the sandbox: the program reads nothing more."""
        self._abandoned = self._closed = True
        self._content = memoryview(b"")
        self._written.clear()
        self._changed = _ignore
        if self._taken:
            self._taken.set()

    def _check_open(self) -> None:
        if not self._kept_open:
            raise InputRefused(
                "the program was started without `keep_stdin_open`, so its standard input ended with `stdin`; start it "
                "with `keep_stdin_open: true` to send more"
            )
        if self._abandoned:
            raise InputRefused("the program reads no more input: it has ended, or closed its standard input")
        if self._closed:
            raise InputRefused("the standard input was closed before (`eof`); nothing can follow")
