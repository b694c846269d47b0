"""A shell as the server sees it: what is typed at its terminal, and its prompts."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from codex_server.errors import InputRefused
from codex_server.sandboxes.live_cell import Cell
from codex_server.sandboxes.protocol.cell import CellEnd
from codex_server.sandboxes.session import Prompt, Shell

SHELL_PREFIX = "shell:"
"""Before a shell's name, where interpreters are named."""


class TerminalLine(ABC):
    """The server's end of a terminal."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Type ``data``. Raises ``InputRefused``."""

    @abstractmethod
    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""

    @abstractmethod
    def drain(self) -> None:
        """Pass on what has appeared until now."""

    @abstractmethod
    def close(self) -> None:
        """Close it; safe to call twice."""


class LiveShell(Shell):
    """``begin`` has the shell run until its next prompt; ``kill`` ends it."""

    def __init__(self, line: TerminalLine, begin: Callable[[], Cell], kill: Callable[[], None]) -> None:
        self._line = line
        self._begin = begin
        self._kill = kill
        self._cell: Cell | None = None
        self._ended = False

    @property
    def running(self) -> bool:
        """See ``Shell.running``."""
        return self._cell is not None

    async def type(self, data: bytes) -> None:
        """See ``Shell.type``."""
        if self._ended:
            raise InputRefused("the shell has ended; the next command starts a new one")
        if self._cell is None:
            self._cell = self._begin()
        await self._cell.begun.wait()
        self._line.write(data)

    def resize(self, rows: int, columns: int) -> None:
        """See ``Shell.resize``."""
        self._line.resize(rows, columns)

    async def wait_for_prompt(self) -> Prompt | None:
        """See ``Shell.wait_for_prompt``."""
        if self._ended:
            return None
        if self._cell is None:
            self._cell = self._begin()
        end = await asyncio.shield(self._cell.end)
        self._cell = None
        self._line.drain()
        reply = _reply_in(end)
        if reply is None:
            self.end()
            return None
        return prompt_in(reply)

    async def close(self) -> None:
        """See ``Shell.close``."""
        while not self._ended:
            cell = self._cell = self._cell or self._begin()
            self._kill()
            await asyncio.wait([cell.end])
            self._cell = None
            if _reply_in(cell.end.result()) is None:  # else a prompt was on its way, and nothing was killed yet
                self.end()

    def end(self) -> None:
        """For its session: it is gone. What has appeared is passed on, and its line is closed."""
        self._ended = True
        self._line.drain()
        self._line.close()


def _reply_in(end: CellEnd | None) -> bytes | None:
    """What the shell said when it prompted; None: it has ended."""
    if end is None or end.report.reply_bytes is None:
        return None
    return bytes(end.content[: end.report.reply_bytes])


def prompt_in(reply: bytes) -> Prompt:
    """What a shell has said of itself; whatever else it sent counts as a failed command in no folder."""
    code, _, folder = reply.decode("utf-8", "replace").partition(" ")
    return Prompt(int(code) if code.isascii() and code.isdigit() and int(code) <= 255 else 1, folder)
