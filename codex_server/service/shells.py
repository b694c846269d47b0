"""The shells of a session, by name: what is typed, what they show, and what the last command did."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from functools import partial

from codex_server.errors import InvalidRequest
from codex_server.execution.session import Session
from codex_server.model import Terminal
from codex_server.sandboxes.session import Prompt, Shell
from codex_server.service.screen import Screen, render
from codex_server.service.shell_schemas import ShellEntry, ShellRequest, ShellResponse

MOST_SHELLS = 8
"""Of one session: each has a terminal, of which a sandbox has 16."""
_DEFAULT = Terminal(rows=24, columns=80)
_QUIET_SECONDS = 0.15
"""When nothing appears for so long after keys were typed, a program is taken to wait for the next ones."""


@dataclass(slots=True)
class _Terminal:
    """One shell with its screen. ``prompted`` is done when what was typed has come to its end."""

    shell: Shell
    screen: Screen
    shown: asyncio.Event
    prompted: "asyncio.Task[Prompt | None] | None" = None
    began: float = 0.0
    prompt: Prompt = field(default_factory=lambda: Prompt(0, "/workspace"))
    commands: int = 0
    calls: int = 0
    ended: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


def _take(screen: Screen, shown: asyncio.Event, data: bytes) -> bool:
    screen.feed(data)
    shown.set()
    return True


class Shells:
    """Those of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._terminals: dict[str, _Terminal] = {}
        self._opening = asyncio.Lock()

    @property
    def running(self) -> bool:
        """Whether a command runs in any of them."""
        return any(each.prompted and not each.prompted.done() for each in self._terminals.values())

    def entries(self) -> list[ShellEntry]:
        """Each shell that is there."""
        return [
            ShellEntry(name=name, running=each.shell.running, cwd=each.prompt.folder)
            for name, each in self._terminals.items()
        ]

    async def call(self, name: str, request: ShellRequest) -> ShellResponse:
        """Type what is asked for, wait, and return what is new. A shell that is not there is started.

        Raises ``InvalidRequest`` for one more than there may be, and what ``Session.open_shell`` raises.
        """
        terminal = await self._terminal(name, request)
        async with terminal.turn:
            if request.resize:
                self._resize(terminal, Terminal(request.resize.rows, request.resize.columns))
            if request.typed:
                await self._type(terminal, request.typed)
            await self._wait(terminal, request)
            response = await self._response(terminal, request)
        if terminal.ended:
            self._terminals.pop(name, None)
        return response

    async def close(self, name: str) -> bool:
        """End a shell, and what runs in it; whether there was one."""
        terminal = self._terminals.pop(name, None)
        if terminal is None:
            return False
        if terminal.prompted:
            terminal.prompted.cancel()
        await terminal.shell.close()
        return True

    def abandon(self) -> None:
        """The session has ended: nobody waits for a prompt any more."""
        for terminal in self._terminals.values():
            if terminal.prompted:
                terminal.prompted.cancel()
        self._terminals.clear()

    async def _terminal(self, name: str, request: ShellRequest) -> _Terminal:
        async with self._opening:
            if terminal := self._terminals.get(name):
                return terminal
            if len(self._terminals) >= MOST_SHELLS:
                raise InvalidRequest(f"this session has {MOST_SHELLS} shells, which is the most; close one of them")
            size = Terminal(request.resize.rows, request.resize.columns) if request.resize else _DEFAULT
            screen = Screen(size.rows, size.columns)
            shown = asyncio.Event()
            shell = await self._session.open_shell(name, size, partial(_take, screen, shown))
            terminal = self._terminals[name] = _Terminal(shell, screen, shown)
            return terminal

    @staticmethod
    def _resize(terminal: _Terminal, size: Terminal) -> None:
        if (terminal.screen.rows, terminal.screen.columns) != (size.rows, size.columns):
            terminal.shell.resize(size.rows, size.columns)
            terminal.screen.rows, terminal.screen.columns = size.rows, size.columns

    async def _type(self, terminal: _Terminal, text: str) -> None:
        terminal.shown.clear()
        if terminal.prompted is None:
            terminal.began = time.monotonic()
        await terminal.shell.type(text.encode())
        if terminal.prompted is None:
            terminal.prompted = asyncio.ensure_future(terminal.shell.wait_for_prompt())

    async def _wait(self, terminal: _Terminal, request: ShellRequest) -> None:
        """Until the prompt, or until nothing more appears after keys; at most as long as asked."""
        if terminal.prompted is None:
            return
        due = time.monotonic() + request.wait_seconds
        quiet = not request.typed or "command" not in request.model_fields_set
        while not terminal.prompted.done() and (left := due - time.monotonic()) > 0:
            terminal.shown.clear()
            shown = asyncio.ensure_future(terminal.shown.wait())
            patience = min(left, _QUIET_SECONDS) if quiet and terminal.screen.unread else left
            await asyncio.wait([terminal.prompted, shown], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            was_quiet = not shown.done()
            shown.cancel()
            if quiet and was_quiet and terminal.screen.unread:
                break
        self._note_prompt(terminal)

    @staticmethod
    def _note_prompt(terminal: _Terminal) -> None:
        if terminal.prompted is None or not terminal.prompted.done():
            return
        with contextlib.suppress(asyncio.CancelledError):
            prompt = terminal.prompted.result()
            terminal.ended = prompt is None
            terminal.prompt = prompt or terminal.prompt
        terminal.prompted = None
        terminal.commands += 1

    async def _response(self, terminal: _Terminal, request: ShellRequest) -> ShellResponse:
        screen, missed = terminal.screen, terminal.screen.missed
        full, data, output = screen.full, screen.take(), ""
        if data:
            size, column = (screen.rows, screen.columns), 0 if full else screen.column
            output, screen.column = await asyncio.to_thread(render, data, *size, request.form, column)
        running = terminal.prompted is not None
        terminal.calls += 1
        return ShellResponse(
            output=output,
            missed_bytes=missed,
            running=running,
            running_for_seconds=round(time.monotonic() - terminal.began, 3) if running else None,
            exit_code=None if running or terminal.ended or not terminal.commands else terminal.prompt.exit_code,
            cwd=terminal.prompt.folder,
            full_screen=full,
            ended=terminal.ended,
            next=terminal.calls,
        )
