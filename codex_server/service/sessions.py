"""The sessions of this server: opened within bounds, found by their owners, ended when nobody uses them."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from codex_server.errors import SessionEnded, SessionsFull, UnknownSession
from codex_server.execution.session import EndCause, Session, ended_text
from codex_server.nodes.node import ExecutionNode
from codex_server.sandboxes.session import SessionPlan
from codex_server.service.cursors import Cursors
from codex_server.service.open_session import OpenSession, SessionTerms
from codex_server.service.session_records import SessionRecords
from codex_server.service.session_room import SessionRoom

CLOSED = "it was closed by its caller"
_SWEEP_SECONDS = (1.0, 30.0)
"""The shortest and the longest time between two looks for sessions to end."""
_log = logging.getLogger(__name__)


class SessionObserver(Protocol):
    """Counts sessions."""

    def session_opened(self) -> None:
        """One is open."""

    def session_ended(self, cause: str) -> None:
        """One has ended; ``cause`` is an ``EndCause``."""


class Sessions:
    """Every open session. INVARIANT: a session of another caller is unknown, whatever is asked of it."""

    def __init__(
        self,
        node: ExecutionNode,
        records: SessionRecords,
        room: SessionRoom,
        cursors: Cursors,
        *,
        metrics: SessionObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node, self._records, self._room = node, records, room
        self._cursors, self._metrics, self._clock = cursors, metrics, clock
        self._open: dict[str, OpenSession] = {}
        self._opened = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._stopping = False

    async def open(self, plan: SessionPlan, terms: SessionTerms) -> OpenSession:
        """Open a session. Raises ``SessionsFull``, and what ``ExecutionNode.open_session`` raises."""
        if self._room.refusal(terms.owner, plan.limits.memory_bytes):
            await self.sweep()
        if refusal := self._room.refusal(terms.owner, plan.limits.memory_bytes):
            raise self._full(refusal, terms.owner)
        self._room.take(plan.id, terms.owner, plan.limits.memory_bytes)
        try:
            session = self._admit(await self._node.open_session(plan), terms)
        except BaseException:
            self._room.release(plan.id)
            raise
        try:
            await self._records.begin(plan.id, terms.owner, terms.lifetime_seconds)
        except BaseException:  # its caller would never learn its id
            await self._close(session, "it could not be recorded", EndCause.LOST)
            raise
        return session

    async def find(self, session_id: str, owner: str) -> OpenSession:
        """The session of ``owner`` with that id. Raises ``UnknownSession``, or ``SessionEnded`` with when and why."""
        session = self._open.get(session_id)
        if session is not None and session.terms.owner == owner:
            if not session.closing and (why := session.overdue):
                await self._close(session, *why)
            session.check()
            return session
        end = None if session else await self._records.find(session_id, owner)
        if end is None:
            raise UnknownSession(
                f"no session of yours has the id {session_id[:80]!r}; GET /sessions lists those that are open"
            )
        raise SessionEnded(ended_text(end))

    async def page(self, owner: str, cursor: str | None, limit: int) -> tuple[list[OpenSession], str | None]:
        """The open sessions of ``owner``, the newest first, and the cursor of the next page."""
        before = await self._cursors.open(cursor, owner)
        found = [
            session
            for session in reversed(self._open.values())
            if session.terms.owner == owner and (before is None or session.number < before)
        ]
        following = found[limit - 1].number if len(found) > limit else None
        return found[:limit], await self._cursors.seal(following, owner)

    async def end(self, session_id: str, owner: str) -> None:
        """Close it, whatever runs in it. Raises as ``find`` does."""
        await self._close(await self.find(session_id, owner), CLOSED, EndCause.CLOSED)

    async def sweep(self) -> None:
        """End the sessions whose time is over."""
        for session in tuple(self._open.values()):
            if not session.closing and (why := session.overdue):
                await self._close(session, *why)

    def end_waits(self) -> None:
        """The server stops: whoever waits at a shell has what is new now."""
        self._stopping = True
        for session in self._open.values():
            session.shells.end_waits()

    async def close(self) -> None:
        """End what goes on beside the calls. The node ends the sessions themselves, before."""
        if self._sweeping:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        await asyncio.gather(*self._tasks)
        await self._records.close()

    def _admit(self, live: Session, terms: SessionTerms) -> OpenSession:
        self._opened += 1
        session = self._open[live.id] = OpenSession(live, terms, self._opened, self._clock)
        live.on_end(partial(self._ended, session))
        if self._metrics:
            self._metrics.session_opened()
        if self._stopping:
            session.shells.end_waits()
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep_on())
        return session

    async def _close(self, session: OpenSession, reason: str, cause: EndCause) -> None:
        try:
            await session.close(reason, cause)
        finally:
            self._room.release(session.id)

    def _ended(self, session: OpenSession, live: Session) -> None:
        del self._open[live.id]
        if live.end:
            self._records.end(live.id, session.terms.owner, live.end)
            if self._metrics:
                self._metrics.session_ended(live.end.cause)
        if not session.closing:  # nobody closed it: it died
            task = asyncio.get_running_loop().create_task(self._clear_away(session))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _clear_away(self, session: OpenSession) -> None:
        try:
            await self._close(session, "it was lost", EndCause.LOST)
        except Exception:
            _log.exception("what is left of a session cannot be removed", extra={"session_id": session.id})

    async def _sweep_on(self) -> None:
        while self._open:
            least, most = _SWEEP_SECONDS
            await asyncio.sleep(min(most, max(least, self._seconds_to_next(self._open.values()))))
            try:
                await self.sweep()
            except Exception:  # the next round tries again
                _log.exception("sessions cannot be ended")

    def _full(self, refusal: str, owner: str) -> SessionsFull:
        """What is to be said of ``refusal``: when the next session ends, of the caller's own if it has any."""
        if not self._open:
            return SessionsFull(refusal)
        own = [session for session in self._open.values() if session.terms.owner == owner]
        seconds = math.ceil(max(1.0, self._seconds_to_next(own or self._open.values())))
        whose = "the next of yours" if own else "the next one"
        return SessionsFull(
            f"{refusal}; close one with DELETE /sessions/{{session_id}}, or wait: "
            f"{whose} ends in {seconds} s unless it is used",
            retry_after=seconds,
        )

    def _seconds_to_next(self, sessions: Iterable[OpenSession]) -> float:
        return min((session.ends_at - self._clock() for session in sessions), default=1.0)
