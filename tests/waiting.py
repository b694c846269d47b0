"""Waiting for what another process does: asked again and again, with pauses that leave it the processor."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

_PAUSE_SECONDS = 0.01


def until(condition: Callable[[], Any], seconds: float = 10.0) -> bool:
    """Whether ``condition`` came true within ``seconds``."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(_PAUSE_SECONDS)
    return True


async def becomes(condition: Callable[[], Awaitable[Any]], seconds: float = 60.0) -> None:
    """Return when ``condition`` has come true; the event loop goes on meanwhile. Raises ``TimeoutError``."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(_PAUSE_SECONDS)
