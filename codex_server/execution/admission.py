"""Limits how many executions run at once and how many wait; the others get ``Busy`` at once."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from codex_server.errors import Busy

_FIRST_GUESS_SECONDS = 1.0
_WEIGHT = 0.1
"""The weight of the newest run in the moving average: about the last twenty runs count."""
_LONGEST_ADVICE_SECONDS = 60


class Admission:
    """Places for ``places`` executions, and a queue for ``queue_length`` more, first in, first out.

    A place is never lost: if a waiter is cancelled or times out while it receives a place, the next one gets it.
    """

    def __init__(
        self, places: int, queue_length: int, queue_seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._places = places
        self._queue_length = queue_length
        self._queue_seconds = queue_seconds
        self._clock = clock
        self._running = 0
        self._waiting: OrderedDict[asyncio.Future[bool], None] = OrderedDict()
        self._typical_seconds = _FIRST_GUESS_SECONDS

    @property
    def running(self) -> int:
        """Places in use."""
        return self._running

    @property
    def queued(self) -> int:
        """Executions in the queue."""
        return len(self._waiting)

    @property
    def retry_after(self) -> int:
        """Estimated whole seconds until a new execution gets a place, by the moving average of run times: 1 to 60."""
        waves = (len(self._waiting) + 1) / self._places
        return max(1, min(_LONGEST_ADVICE_SECONDS, math.ceil(waves * self._typical_seconds)))

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place while the context lasts. Raises ``Busy`` at once, or after ``queue_seconds``."""
        await self._enter()
        began = self._clock()
        try:
            yield
        finally:
            self._typical_seconds += _WEIGHT * (self._clock() - began - self._typical_seconds)
            self._leave()

    async def _enter(self) -> None:
        if self._running < self._places:  # then the queue is empty: a free place goes to the queue first
            self._running += 1
        elif len(self._waiting) >= self._queue_length:
            raise self._busy("every sandbox is in use and the queue is full")
        elif not await self._wait():
            raise self._busy(f"no sandbox became free within {self._queue_seconds:g} s")

    async def _wait(self) -> bool:
        """Wait for a place; return False after ``queue_seconds``."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting[turn] = None
        timeout = loop.call_later(self._queue_seconds, self._give_up, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled() and turn.result():  # received a place, but was cancelled before it could use it
                self._leave()
            raise
        finally:
            timeout.cancel()

    def _give_up(self, turn: asyncio.Future[bool]) -> None:
        self._waiting.pop(turn, None)
        if not turn.done():
            turn.set_result(False)

    def _leave(self) -> None:
        """Give the place to the first waiter, or free it."""
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(True)
                return
        self._running -= 1

    def _busy(self, why: str) -> Busy:
        seconds = self.retry_after
        return Busy(f"{why}; nothing was run, try again in {seconds} s", retry_after=seconds)
