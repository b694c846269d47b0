"""How often a caller may call: the ``limits`` library's parser and moving window, the ones that slowapi wraps.

slowapi itself is not in the path, for two of its ways do not hold here: its default limits do nothing for routers that
FastAPI includes (laurentS/slowapi#281), and its decorator answers with its own headers and body in place of ours. What
it would do is this module and one dependency of the route; a test proves a 429 on every route that must be limited.
"""

import math
import time
from dataclasses import dataclass

import limits
from limits.storage import storage_from_string
from limits.strategies import MovingWindowRateLimiter

from codex_server.access.moments import SCHEME, MomentStorage


@dataclass(frozen=True, slots=True)
class Window:
    """One policy as a caller stands in it: ``remaining`` of ``quota`` requests, all back after ``reset`` seconds."""

    name: str
    quota: int
    seconds: int
    remaining: int
    reset: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """Where a caller stands after asking. ``retry_after`` in whole seconds when it was refused, else None."""

    windows: tuple[Window, ...] = ()
    retry_after: int | None = None

    @property
    def exhausted(self) -> tuple[Window, ...]:
        """The policies with nothing left."""
        return tuple(window for window in self.windows if not window.remaining)


class RateLimit:
    """One or more policies, counted for each caller apart.

    ``storage`` is an address as ``limits`` and slowapi take it; by default the memory of this process, by a clock that
    nobody sets.
    """

    def __init__(self, policy: str, storage: str = f"{SCHEME}://") -> None:
        self._items = tuple(limits.parse_many(policy)) if policy else ()
        self._limiter = MovingWindowRateLimiter(storage_from_string(storage))

    def take(self, caller: str, cost: int = 1) -> Allowance:
        """Count ``cost`` executions of ``caller``, or refuse them; what is refused is counted by no policy."""
        if refused := [item for item in self._items if not self._limiter.test(item, caller, cost=cost)]:
            retry_after = max(self._window(item, caller).reset for item in refused)
            return Allowance(self._windows(caller), retry_after)
        for item in self._items:
            self._limiter.hit(item, caller, cost=cost)
        return Allowance(self._windows(caller))

    def _windows(self, caller: str) -> tuple[Window, ...]:
        return tuple(self._window(item, caller) for item in self._items)

    def _window(self, item: limits.RateLimitItem, caller: str) -> Window:
        stats = self._limiter.get_window_stats(item, caller)
        # The start of a moving window is its oldest execution: one place is free again when that one is too old.
        # No wait is longer than the window, whatever became of the clock of a storage that other machines share.
        reset = min(item.get_expiry(), max(1, math.ceil(stats.reset_time - self._now())))
        return Window(_name(item), item.amount, item.get_expiry(), max(0, stats.remaining), reset)

    def _now(self) -> float:
        """Now, by the storage's clock."""
        storage = self._limiter.storage
        return storage.now() if isinstance(storage, MomentStorage) else time.time()  # noqa: TID251 - the others' clock


def _name(item: limits.RateLimitItem) -> str:
    unit = item.GRANULARITY.name
    return unit if item.multiples == 1 else f"{item.multiples}{unit}"
