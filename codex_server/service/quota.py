"""What each caller may use in one UTC day."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from codex_server.errors import QuotaExceeded
from codex_server.model import Caller
from codex_server.service.usage import CPU_SECONDS, EXECUTIONS, Usage

DAY_SECONDS = 86_400
_UNITS = {EXECUTIONS: "executions", CPU_SECONDS: "CPU seconds"}


@dataclass(frozen=True, slots=True)
class Measure:
    """One quota as a caller stands in it."""

    name: str
    quota: float
    used: float

    @property
    def remaining(self) -> int:
        """What is left, in whole units."""
        return max(0, math.floor(self.quota - self.used))


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands on ``day``; everything is back after ``reset`` seconds."""

    day: date
    measures: tuple[Measure, ...]
    reset: int


class Quota:
    """Refuses executions of callers who have used up their day's. None: no such quota.

    CPU seconds are known at an execution's end: what began below the quota ends as usual.
    """

    def __init__(self, usage: Usage, *, executions: int | None, cpu_seconds: float | None) -> None:
        self._usage = usage
        named = {EXECUTIONS: executions, CPU_SECONDS: cpu_seconds}
        self._quotas = {name: float(quota) for name, quota in named.items() if quota is not None}

    @property
    def is_set(self) -> bool:
        """Whether there is any."""
        return bool(self._quotas)

    async def take(self, caller: Caller, report: Callable[[Standing], None]) -> date:
        """Count one execution on the day that is returned. Raises ``QuotaExceeded``.

        It is not counted when this raises or is cancelled. ``report`` gets where the caller then stands, also when it
        is refused.
        """
        now = self._usage.now()
        day = now.date()
        used = await self._usage.add(day, caller, 1)
        report(self._standing(used, now))
        before = {**used, EXECUTIONS: used[EXECUTIONS] - 1}
        if refusal := self._refusal(before, 1, now):
            self._usage.note(day, caller, executions=-1)
            raise refusal
        return day

    async def check(self, caller: Caller, cost: int, report: Callable[[Standing], None]) -> None:
        """Whether ``cost`` executions are left. Raises ``QuotaExceeded``; counts none, and reports as ``take``."""
        now = self._usage.now()
        used = await self._usage.add(now.date(), caller, 0)
        report(self._standing(used, now))
        if refusal := self._refusal(used, cost, now):
            raise refusal

    def _refusal(self, used: Mapping[str, float], cost: int, now: datetime) -> QuotaExceeded | None:
        standing = self._standing(used, now)
        for measure in standing.measures:
            left = measure.quota - measure.used
            if left <= 0 or (measure.name == EXECUTIONS and cost > left):
                return QuotaExceeded(_explain(measure, cost, standing), standing.reset)
        return None

    def _standing(self, used: Mapping[str, float], now: datetime) -> Standing:
        measures = tuple(Measure(name, quota, used.get(name, 0.0)) for name, quota in self._quotas.items())
        midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
        return Standing(now.date(), measures, max(1, math.ceil((midnight - now).total_seconds())))


def _explain(measure: Measure, cost: int, standing: Standing) -> str:
    of_today = f"today's {measure.quota:.15g} {_UNITS[measure.name]}"
    again = f"they are back at {standing.day + timedelta(days=1)}T00:00:00Z, in {standing.reset} s"
    if measure.remaining and cost > 1:
        return f"the batch needs {cost} executions, and {measure.remaining} are left of {of_today}; {again}"
    return f"{of_today} are used up; {again}"
