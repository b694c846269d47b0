"""Slots that wait to be armed once more. One that nobody wants for a moment is ended, so memory follows the load."""

import asyncio
from collections import deque

from codex_server.sandboxes.embedded.slot import Slot

_KEEP_SECONDS = 1.0


class IdleSlots:
    """The slots of one zygote that served cleanly and stand empty."""

    def __init__(self) -> None:
        self._slots: deque[tuple[Slot, asyncio.TimerHandle]] = deque()
        self._endings: set[asyncio.Task[None]] = set()

    def put(self, slot: Slot) -> None:
        """Keep it for a moment."""
        timer = asyncio.get_running_loop().call_later(_KEEP_SECONDS, self._end_oldest)
        self._slots.append((slot, timer))

    def take(self) -> Slot | None:
        """The slot that was used last, if there is one."""
        while self._slots:
            slot, timer = self._slots.pop()
            timer.cancel()
            if slot.alive:
                return slot
            self._end(slot)
        return None

    async def close(self) -> None:
        """End them all and wait until they are gone."""
        while self._slots:
            self._end_oldest()
        if self._endings:
            await asyncio.wait(self._endings)

    def _end_oldest(self) -> None:
        slot, timer = self._slots.popleft()
        timer.cancel()
        self._end(slot)

    def _end(self, slot: Slot) -> None:
        task = asyncio.ensure_future(slot.end())
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
