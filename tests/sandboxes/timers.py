"""What a sandbox asks of the event loop's clock: a test judges the delay itself, without waiting for it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

Requested = tuple[Any, ...]


def timers_of(owner: object, monkeypatch: pytest.MonkeyPatch) -> list[Requested]:
    """From now on, for each timer whose callback is a method of ``owner``: its delay, then the callback's arguments."""
    loop, requested = asyncio.get_running_loop(), list[Requested]()
    set_timer = loop.call_later

    def call_later(delay: float, callback: Callable[..., object], *args: Any, **how: Any) -> asyncio.TimerHandle:
        if getattr(callback, "__self__", None) is owner:
            requested.append((delay, *args))
        return set_timer(delay, callback, *args, **how)

    monkeypatch.setattr(loop, "call_later", call_later)
    return requested
