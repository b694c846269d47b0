"""An open session as its caller knows it: what may run in it, what runs, and how long it lives."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from codex_server.errors import InvalidRequest, SessionBusy, SessionEnded
from codex_server.execution.run import Run
from codex_server.execution.session import EndCause, Session, SessionEnd, ended_text
from codex_server.model import SessionState
from codex_server.service.file_space import SeenFiles
from codex_server.service.shells import Shells
from codex_server.units import format_seconds

MOST_WAITING = 16
"""Executions that may wait for their turn in one session, beside the one that runs."""
_CANCEL_SECONDS = 10.0
"""How long what runs in a session may take to end when it is closed; then its sandbox is taken away beneath it."""


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """What a session was opened with: ``languages`` that it may run, by name, and the ``limits`` that it asked for."""

    owner: str
    languages: tuple[str, ...]
    limits: Mapping[str, float]
    idle_seconds: float
    lifetime_seconds: float


class OpenSession:
    """A live session with its terms. ``number`` orders the sessions of this process; ``clock`` is monotonic."""

    def __init__(
        self, live: Session, terms: SessionTerms, number: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.live, self.terms, self.number = live, terms, number
        self._clock, self._opened = clock, clock()
        self.seen = SeenFiles()
        """The files of its workspace that its caller has read or written."""
        self.shells = Shells(live)
        self._runs: set[Run] = set()
        self._closing: SessionEnd | None = None

    @property
    def id(self) -> str:
        """The session's id."""
        return self.live.id

    @property
    def closing(self) -> bool:
        """Whether ``close`` was called."""
        return self._closing is not None

    @property
    def ends_at(self) -> float:
        """When it ends unless it is used again, by ``clock``."""
        used = self._clock() if self._busy else self.live.last_used
        return min(used + self.terms.idle_seconds, self._opened + self.terms.lifetime_seconds)

    @property
    def expires_at(self) -> datetime:
        """The same as a time of day."""
        return self.live.created_at + timedelta(seconds=self.ends_at - self._opened)

    @property
    def overdue(self) -> tuple[str, EndCause] | None:
        """Why it is to end now, if it is. INVARIANT: one that is in use never is."""
        now = self._clock()
        if self._busy or now < self.ends_at:
            return None
        if now >= self._opened + self.terms.lifetime_seconds:
            return f"its lifetime of {format_seconds(self.terms.lifetime_seconds)} was over", EndCause.LIFETIME
        return f"it was not used for {format_seconds(self.terms.idle_seconds)}", EndCause.IDLE

    def check(self) -> None:
        """Raise ``SessionEnded`` when it has ended, or is about to."""
        if self._closing:
            raise SessionEnded(ended_text(self._closing))
        self.live.check()

    def check_language(self, name: str) -> None:
        """Raise ``InvalidRequest`` for a language that the session was not opened for."""
        if name not in self.terms.languages:
            known = ", ".join(self.terms.languages)
            raise InvalidRequest(f"this session was opened for {known} alone; open one for {name}", "/language")

    def check_queue(self) -> None:
        """Raise ``SessionBusy`` when as many executions wait for their turn as may: each holds its files meanwhile."""
        if len(self._runs) > MOST_WAITING:
            raise SessionBusy(
                f"{MOST_WAITING} executions wait for this session already; nothing was run, send it again later"
            )

    def follow(self, run: Run) -> None:
        """Take note of a run in this session, until it has ended."""
        self._runs.add(run)
        run.on_end(self._runs.discard)

    def state(self) -> SessionState:
        """How the session stands."""
        return SessionState(self.id, None if self.live.end or self._closing else self.expires_at)

    async def close(self, reason: str, cause: EndCause) -> None:
        """End it: what runs is cancelled, what waits is refused, and nothing is left when this returns.

        ``reason``: see ``SessionEnd``. A session that has ended has its remains removed.
        """
        self._closing = self._closing or self.live.end or SessionEnd(reason, datetime.now(UTC), cause)
        runs = tuple(self._runs)
        for run in runs:
            run.cancel(SessionEnded(ended_text(self._closing)))
        await asyncio.gather(*(run.wait(_CANCEL_SECONDS) for run in runs))
        self.shells.abandon()
        await self.live.close(self._closing.reason, self._closing.cause)

    @property
    def _busy(self) -> bool:
        return bool(self._runs) or self.live.busy or self.shells.running
