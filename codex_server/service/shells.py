"""The shells of a session, by name: what is typed, what they show, and what the last command did."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from codex_server.errors import InputRefused, InvalidRequest, UnknownShell
from codex_server.execution.session import Session
from codex_server.model import Terminal
from codex_server.sandboxes.session import Prompt, Shell
from codex_server.service.screen import Screen, render
from codex_server.service.shell_schemas import ShellEntry, ShellRequest, ShellResponse

Attended = Callable[[Coroutine[Any, Any, None]], Awaitable[None]]
"""Waits for what it is given, as long as anybody is there to have the response."""
MOST_SHELLS = 8
"""Of one session: each has a terminal, of which a sandbox has 16."""
_DEFAULT = 24, 80
"""Rows and columns."""
_LINE_ENDS = frozenset("\r\n\x0f")
"""What has Bash run the line: Enter, Ctrl-J and Ctrl-O."""
_QUIET_SECONDS = {"text": 0.15, "ansi": 0.15, "raw": 0.01}
"""By form: when nothing appears for so long after keys were typed, a program is taken to wait for the next ones."""


async def _alone(work: Coroutine[Any, Any, None]) -> None:
    await work


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
    ended: bool = False
    typing: asyncio.Lock = field(default_factory=asyncio.Lock)
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def exit_code(self) -> int | None:
        """Of the last command; None while one runs, before the first, and once the shell has ended."""
        return None if self.prompted or self.ended or not self.commands else self.prompt.exit_code

    def note(self, prompted: "asyncio.Task[Prompt | None]") -> None:
        """What was typed has come to its end: the shell prompts, has ended, or nobody waits for it any more."""
        prompt = None if prompted.cancelled() else prompted.result()
        self.ended = prompt is None
        self.prompt = prompt or self.prompt
        self.prompted = None
        self.commands += 1
        self.shown.set()


def _take(screen: Screen, shown: asyncio.Event, data: bytes) -> bool:
    screen.feed(data)
    shown.set()
    return True


class Shells:
    """Those of one session. Calls of one shell go on beside one another: a reader holds up nobody who types."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._terminals: dict[str, _Terminal] = {}
        self._opening = asyncio.Lock()
        self._hurried = False

    @property
    def running(self) -> bool:
        """Whether a command runs in any of them."""
        return any(each.prompted for each in self._terminals.values())

    def may_start(self, name: str, request: ShellRequest) -> bool:
        """Whether the call may start a program: it opens a shell, or types a line at one that prompts."""
        terminal = self._terminals.get(name)
        if terminal is None or "command" in request.model_fields_set:
            return True
        if terminal.ended:
            return bool(request.typed)
        return terminal.prompted is None and not _LINE_ENDS.isdisjoint(request.typed)

    def entries(self) -> list[ShellEntry]:
        """Each shell that is there."""
        return [
            ShellEntry(name=name, running=each.prompted is not None, cwd=each.prompt.folder)
            for name, each in self._terminals.items()
            if not each.ended
        ]

    async def call(self, name: str, request: ShellRequest, attended: Attended = _alone) -> ShellResponse:
        """Type what is asked for, wait, and return what is new. A shell that is not there is started.

        ``attended`` carries the wait out, and may end it by an error: what appears after that is new for the next call.
        Raises ``InvalidRequest`` for one more than there may be, what ``Session.open_shell`` raises, and
        ``SessionEnded`` also when the session ends meanwhile.
        """
        with self._session.using():
            terminal = await self._terminal(name, request)
            async with terminal.typing:
                self._resize(terminal, request)
                await self._type(terminal, request.typed)
            await attended(self._wait(terminal, request))
            self._session.check()
            async with terminal.looking:
                response = await self._response(terminal, request)
            if response.ended and self._terminals.get(name) is terminal:
                del self._terminals[name]
            return response

    async def close(self, name: str) -> None:
        """End a shell, and what runs in it. Raises ``UnknownShell``."""
        terminal = self._terminals.pop(name, None)
        if terminal is None or terminal.ended:
            raise UnknownShell(
                f"this session has no shell {name[:80]!r}; GET /sessions/{{session_id}}/shells lists those that it has"
            )
        if terminal.prompted:
            terminal.prompted.cancel()
        await terminal.shell.close()
        terminal.ended = True
        terminal.shown.set()

    def end_waits(self) -> None:
        """The server stops: from now on every call returns what is new, and waits for nothing."""
        self._hurried = True
        for terminal in self._terminals.values():
            terminal.shown.set()

    def abandon(self) -> None:
        """The session has ended: nobody waits for a prompt any more."""
        for terminal in self._terminals.values():
            terminal.ended = True
            terminal.shown.set()
            if terminal.prompted:
                terminal.prompted.cancel()
        self._terminals.clear()

    async def _terminal(self, name: str, request: ShellRequest) -> _Terminal:
        """The one of that name; in place of one that has ended a new one, which first shows what that one left."""
        async with self._opening:
            terminal = self._terminals.get(name)
            if terminal and not (terminal.ended and request.typed):
                return terminal
            self._make_room(name)
            rows, columns = _size_of(request)
            screen, shown = Screen(rows, columns), asyncio.Event()
            shell = await self._session.open_shell(name, Terminal(rows, columns), partial(_take, screen, shown))
            if terminal:
                screen.feed(terminal.screen.take("raw")[0])
            opened = self._terminals[name] = _Terminal(shell, screen, shown)
            return opened

    def _make_room(self, name: str) -> None:
        """For one more. Raises ``InvalidRequest``."""
        if name in self._terminals or len(self._terminals) < MOST_SHELLS:
            return
        ended = next((name for name, each in self._terminals.items() if each.ended), None)
        if ended is None:
            raise InvalidRequest(f"this session has {MOST_SHELLS} shells, which is the most; close one of them")
        del self._terminals[ended]

    @staticmethod
    def _resize(terminal: _Terminal, request: ShellRequest) -> None:
        screen = terminal.screen
        if request.resize and (screen.rows, screen.columns) != _size_of(request):
            screen.rows, screen.columns = _size_of(request)
            terminal.shell.resize(screen.rows, screen.columns)

    async def _type(self, terminal: _Terminal, text: str) -> None:
        if not text:
            return
        if terminal.prompted is None:
            terminal.began = time.monotonic()
        try:
            await terminal.shell.type(text.encode())
        except InputRefused:
            self._session.check()  # where it has ended, that is why
            raise
        if terminal.prompted is None:
            terminal.prompted = asyncio.ensure_future(terminal.shell.wait_for_prompt())
            terminal.prompted.add_done_callback(terminal.note)

    async def _wait(self, terminal: _Terminal, request: ShellRequest) -> None:
        """Until the prompt, or until nothing more appears after keys; at most as asked, and to ``end_waits``."""
        prompted, due = terminal.prompted, time.monotonic() + request.wait_seconds
        if prompted is None and request.since is None:
            return
        follows = request.since is not None and not request.typed
        quiet = not request.typed or "command" not in request.model_fields_set
        while (left := due - time.monotonic()) > 0 and not (terminal.ended or self._hurried):
            if not follows and (prompted is None or prompted.done()):
                break
            terminal.shown.clear()
            if follows and _has_news(terminal.screen, request):
                await asyncio.sleep(_QUIET_SECONDS["raw"])  # what comes together is returned together
                break
            patience = _QUIET_SECONDS[request.form] if quiet and _has_news(terminal.screen, request) else left
            try:
                async with asyncio.timeout(min(left, patience)):
                    await terminal.shown.wait()
            except TimeoutError:
                break
        await asyncio.sleep(0)  # a prompt that has come is noted now

    async def _response(self, terminal: _Terminal, request: ShellRequest) -> ShellResponse:
        screen, full = terminal.screen, terminal.screen.full
        if request.since is None:
            data, missed = screen.take(request.form)
            position = screen.total
        else:
            data, missed = screen.since(request.since)
            position = min(request.since, screen.total) + missed + len(data)
        response = ShellResponse(
            output="",
            missed_bytes=missed,
            running=terminal.prompted is not None,
            running_for_seconds=round(time.monotonic() - terminal.began, 3) if terminal.prompted else None,
            exit_code=terminal.exit_code,
            cwd=terminal.prompt.folder,
            full_screen=full,
            ended=terminal.ended,
            next=position,
        )
        if not data:
            return response
        size, column = (screen.rows, screen.columns), 0 if full else screen.column
        output, column = await asyncio.to_thread(render, data, *size, request.form, column, full=full)
        screen.column = screen.column if full else column
        return response.model_copy(update={"output": output})


def _size_of(request: ShellRequest) -> tuple[int, int]:
    return (request.resize.rows, request.resize.columns) if request.resize else _DEFAULT


def _has_news(screen: Screen, request: ShellRequest) -> bool:
    return screen.news if request.since is None else screen.total > request.since
