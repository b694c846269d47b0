"""What each caller used on each UTC day: executions and CPU seconds, in counters of the store."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from codex_server.errors import StoreUnusable
from codex_server.model import Caller
from codex_server.store.base import Store, since_epoch

_log = logging.getLogger(__name__)

TABLE = "usage"
EXECUTIONS, CPU_SECONDS = "executions", "cpu_seconds"
_WRITE_SECONDS = 0.2
"""How long amounts are collected before they are written together: a killed server forgets so much."""
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

    def now(self) -> datetime:
        """The time by which days are told, in UTC."""
        return datetime.fromtimestamp(self._clock(), UTC)

    def note(self, day: date, caller: Caller, *, executions: int = 0, cpu_seconds: float = 0.0) -> None:
        """Add this; written a moment later, with what comes until then."""
        if not executions and not cpu_seconds:
            return
        amounts = self._waiting.setdefault((day, caller), {})
        for name, amount in ((EXECUTIONS, executions), (CPU_SECONDS, cpu_seconds)):
            amounts[name] = amounts.get(name, 0) + amount
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_later())

    async def add(self, day: date, caller: Caller, executions: int) -> Mapping[str, float]:
        """Add executions at once, and return all that the caller used on that day; 0 adds none."""
        await self.flush()
        return await self._add(day, caller, {EXECUTIONS: executions} if executions else {})

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
        """Write what waits; when this returns, all that was noted before it was called is written."""
        async with self._flushing:
            waiting, self._waiting = self._waiting, {}
            for (day, caller), amounts in waiting.items():
                await self._add(day, caller, amounts)

    async def close(self) -> None:
        """Write what waits, for the last time."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        await self._try_to_flush()

    async def _add(self, day: date, caller: Caller, amounts: Mapping[str, float]) -> Mapping[str, float]:
        key, expires_at = f"{day} {caller.key}", self._clock() + self._seconds
        if amounts and not self._is_named(day, key):
            await self._store.put(TABLE, key, caller.name.encode(), owner=caller.key, expires_at=expires_at)
        return await self._store.add(TABLE, key, amounts, expires_at=expires_at)

    def _is_named(self, day: date, key: str) -> bool:
        """Whether the caller's name is kept for that day: counters alone cannot be listed."""
        if self._named[0] != day:
            self._named = day, set()
        known = key in self._named[1]
        self._named[1].add(key)
        return known

    async def _write_later(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(_WRITE_SECONDS)
                await self._try_to_flush()
        finally:
            self._writer = None

    async def _try_to_flush(self) -> None:
        try:
            await self.flush()
        except StoreUnusable as error:
            _log.error("what callers used is missing in their usage", extra={"cause": error.detail})
