"""The server's live handle on a session: whose turn it is, operations on its files, and how it ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from codex_server.errors import SessionBusy, SessionEnded
from codex_server.languages import Language
from codex_server.model import Terminal
from codex_server.sandboxes.session import Content, SessionPlan, SessionSandbox, Shell
from codex_server.sandboxes.stdin import StandardInput
from codex_server.units import format_seconds


class EndCause(StrEnum):
    """The kinds of ends, for whoever counts them."""

    CLOSED = "closed"
    IDLE = "idle"
    LIFETIME = "lifetime"
    LOST = "lost"
    STOPPED = "stopped"
    """With the server."""


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """When and why a session ended; ``reason`` completes the sentence "it has ended: ..."."""

    reason: str
    ended_at: datetime
    cause: EndCause = EndCause.LOST


@dataclass(frozen=True, slots=True)
class Turn:
    """A session that an execution is to run in, and whether it waits while another one runs there."""

    session: "Session"
    wait: bool = True


class Session:
    """A session of this process. It belongs to the executor; whoever asked for it is known above."""

    def __init__(self, plan: SessionPlan, sandbox: SessionSandbox) -> None:
        self.plan = plan
        self.created_at = datetime.now(UTC)
        self.last_used = time.monotonic()
        """When its last cell, operation or call of a shell ended (monotonic)."""
        self.end: SessionEnd | None = None
        self._sandbox = sandbox
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._operations = 0
        self._on_end: list[Callable[[Session], None]] = []
        sandbox.on_death(self._died)

    @property
    def id(self) -> str:
        """The session's id."""
        return self.plan.id

    @property
    def busy(self) -> bool:
        """Whether a cell or an operation runs, or waits."""
        return self._turn.locked() or self._waiting > 0 or self._operations > 0

    @property
    def interpreters(self) -> frozenset[str]:
        """The languages whose interpreters live, among other names."""
        return self._sandbox.interpreters

    def begin(self, language: Language) -> None:
        """Begin to start an interpreter. See ``SessionSandbox.begin``."""
        self._sandbox.begin(language)

    @asynccontextmanager
    async def turn(self, *, seconds: float) -> AsyncIterator[SessionSandbox]:
        """Hold the session's one turn. Raises ``SessionBusy`` when it is not free within ``seconds``.

        Raises ``SessionEnded`` when the session ended before.
        """
        self.check()
        await self._take_turn(seconds)
        try:
            self.check()
            yield self._sandbox
        finally:
            self.last_used = time.monotonic()
            self._turn.release()

    async def _take_turn(self, seconds: float) -> None:
        if seconds <= 0 and self._turn.locked():
            raise SessionBusy(
                "another execution runs in this session; nothing was run; send it again when that has ended, "
                "or interrupt that with POST /sessions/{session_id}/interrupt"
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds or None):
                await self._turn.acquire()
        except TimeoutError:
            self.check()
            waited = format_seconds(seconds)
            raise SessionBusy(
                f"another execution ran in this session for all of the {waited} that this one may wait; nothing was run"
            ) from None
        finally:
            self._waiting -= 1

    async def operate(
        self, request: Mapping[str, object], content: StandardInput, output: Content
    ) -> Mapping[str, object]:
        """Carry out one operation on files, beside the cell that may run. See ``SessionSandbox.operate``."""
        with self.using():
            return await self._sandbox.operate(request, content, output)

    @contextmanager
    def using(self) -> Iterator[None]:
        """Within the context it is in use, beside the cell that may run. Raises ``SessionEnded``."""
        self.check()
        self._operations += 1
        try:
            yield
        finally:
            self._operations -= 1
            self.last_used = time.monotonic()

    async def open_shell(self, name: str, size: Terminal, output: Content) -> Shell:
        """Start a shell. See ``SessionSandbox.open_shell``."""
        self.check()
        return await self._sandbox.open_shell(name, size, output)

    def interrupt(self) -> bool:
        """Interrupt the cell that runs, as Ctrl-C would; False when none runs. Raises ``SessionEnded``."""
        self.check()
        return self._sandbox.interrupt()

    def check(self) -> None:
        """Raise ``SessionEnded`` when it has ended."""
        if self.end:
            raise SessionEnded(ended_text(self.end))

    def on_end(self, callback: "Callable[[Session], None]") -> None:
        """Have ``callback`` called when the session has ended, with this session."""
        self._on_end.append(callback)

    async def close(self, reason: str, cause: EndCause = EndCause.CLOSED) -> None:
        """End it: its processes and files are gone when this returns. ``reason``: see ``SessionEnd``."""
        self._end(reason, cause)
        await self._sandbox.destroy()

    def _died(self, reason: str) -> None:
        self._end(reason, EndCause.LOST)

    def _end(self, reason: str, cause: EndCause) -> None:
        if self.end is None:
            self.end = SessionEnd(reason, datetime.now(UTC), cause)
            for callback in self._on_end:
                callback(self)


def ended_text(end: SessionEnd) -> str:
    """What a caller is told of a session that has ended."""
    at = end.ended_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"the session ended at {at}: {end.reason}; open a new one with POST /sessions"
