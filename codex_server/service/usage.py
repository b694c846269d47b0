"""What each caller used on each UTC day: executions and CPU seconds, in counters of the store."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from codex_server.errors import StoreUnusable
from codex_server.model import Caller
from codex_server.store.base import Store, since_epoch

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

TABLE = "usage"
EXECUTIONS, CPU_SECONDS = "executions", "cpu_seconds"
_WRITE_SECONDS = 0.2
"""How long amounts are collected before they are written together: a killed server forgets so much."""
_RETRY_SECONDS = 5.0
"""How long a store that failed is left alone."""
_DAY = 86_400.0
_FEWEST_DAYS = 2.0
"""A day's counters outlive the day, however short the history is."""
_PAGE = 500


@dataclass(frozen=True, slots=True)
class CallerDay:
    """One caller on one UTC day. ``caller`` is the name of the token."""

    day: date
    caller: str
    executions: int
    cpu_seconds: float


class Usage:
    """Counts what callers use, and keeps it for ``days``."""

    def __init__(self, store: Store, *, days: float, clock: Callable[[], float] = since_epoch) -> None:
        self._store, self._clock = store, clock
        self._seconds = max(days, _FEWEST_DAYS) * _DAY
        self._waiting: dict[tuple[date, Caller], dict[str, float]] = {}
        self._flushing = asyncio.Lock()
        self._named: tuple[date, set[str]] = (date.min, set())
        self._writer: asyncio.Task[None] | None = None
        self._working: set[asyncio.Task[Any]] = set()
        self._left: dict[asyncio.Task[Any], Caller] = {}

    def now(self) -> datetime:
        """The time by which days are told, in UTC."""
        return datetime.fromtimestamp(self._clock(), UTC)

    def note(self, day: date, caller: Caller, *, executions: int = 0, cpu_seconds: float = 0.0) -> None:
        """Add this; written a moment later, with what comes until then."""
        if not executions and not cpu_seconds:
            return
        self._collect(day, caller, {EXECUTIONS: executions, CPU_SECONDS: cpu_seconds})
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_later())

    async def add(self, day: date, caller: Caller, executions: int) -> Mapping[str, float]:
        """Add executions at once, and return all that the caller used on that day; 0 adds none.

        When it is cancelled, what it has added or still adds is taken back.
        """
        left = [each for each, whose in self._left.items() if whose == caller]
        counting = self._begin(self._count(day, caller, executions, left))
        try:
            return await asyncio.shield(counting)
        except asyncio.CancelledError:
            self._left[counting] = caller
            counting.add_done_callback(partial(self._take_back, day, caller, executions))
            raise

    async def by_day(self, days: int) -> list[CallerDay]:
        """What each caller used on the last ``days`` days, the oldest first."""
        first = self.now().date() - timedelta(days=days - 1)
        found: list[CallerDay] = []
        before: int | None = None
        while True:
            page = await self._store.page(TABLE, before=before, limit=_PAGE)
            for record in page.records:
                day = date.fromisoformat(record.key.split()[0])
                if day >= first:
                    used = await self._store.add(TABLE, record.key, {})
                    numbers = round(used.get(EXECUTIONS, 0)), used.get(CPU_SECONDS, 0.0)
                    found.append(CallerDay(day, record.value.decode(), *numbers))
            before = page.before
            if before is None:
                return sorted(found, key=lambda each: (each.day, each.caller))

    async def flush(self) -> None:
        """Write what waits; when this returns, all that was noted before it was called is written.

        When it raises, what is not written waits on; when it is cancelled, the writing goes on.
        """
        # The store finishes what a cancelled caller asked for: without the shield that amount would be written twice.
        await asyncio.shield(self._begin(self._flush()))

    async def close(self) -> None:
        """Write what waits, for the last time."""
        while self._working:  # a count whose caller left may be taken back
            await asyncio.wait(self._working)
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        await self._try_to_flush()

    def _begin(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    def _collect(self, day: date, caller: Caller, amounts: Mapping[str, float]) -> None:
        waiting = self._waiting.setdefault((day, caller), {})
        for name, amount in amounts.items():
            waiting[name] = waiting.get(name, 0) + amount

    async def _count(
        self, day: date, caller: Caller, executions: int, left: list[asyncio.Task[Any]]
    ) -> Mapping[str, float]:
        if left:
            await asyncio.wait(left)  # else one that is about to be taken back could refuse the caller's next
        await self._flush()
        return await self._add(day, caller, {EXECUTIONS: executions} if executions else {})

    def _take_back(self, day: date, caller: Caller, executions: int, counting: asyncio.Task[Any]) -> None:
        del self._left[counting]
        if not counting.cancelled() and counting.exception() is None:
            self.note(day, caller, executions=-executions)

    async def _flush(self) -> None:
        async with self._flushing:
            waiting, self._waiting = self._waiting, {}
            try:
                for day, caller in list(waiting):
                    await self._add(day, caller, waiting[day, caller])
                    del waiting[day, caller]
            finally:
                for (day, caller), amounts in waiting.items():
                    self._collect(day, caller, amounts)

    async def _add(self, day: date, caller: Caller, amounts: Mapping[str, float]) -> Mapping[str, float]:
        key, expires_at = f"{day} {caller.key}", self._clock() + self._seconds
        if amounts:
            await self._keep_name(day, caller, key, expires_at)
        return await self._store.add(TABLE, key, amounts, expires_at=expires_at)

    async def _keep_name(self, day: date, caller: Caller, key: str, expires_at: float) -> None:
        """Keep the caller's name for that day, once: counters alone cannot be listed."""
        if self._named[0] != day:
            self._named = day, set()
        named = self._named[1]
        if key not in named:
            await self._store.put(TABLE, key, caller.name.encode(), owner=caller.key, expires_at=expires_at)
            named.add(key)

    async def _write_later(self) -> None:
        pause = _WRITE_SECONDS
        try:
            while self._waiting or self._flushing.locked():  # a flush under way may fail, and what it writes waits on
                await asyncio.sleep(pause)
                pause = _WRITE_SECONDS if await self._try_to_flush() else _RETRY_SECONDS
        finally:
            self._writer = None

    async def _try_to_flush(self) -> bool:
        try:
            await self.flush()
        except StoreUnusable as error:
            _log.warning("usage waits to be written", extra={"cause": error.detail})
            return False
        return True
