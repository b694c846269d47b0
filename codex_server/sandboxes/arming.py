"""Arming, as both backends do it: what is begun is finished, and what is armed sends nothing."""

import asyncio
import logging
import socket
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from codex_server.errors import SandboxUnavailable

_log = logging.getLogger(__name__)


class Destroyable(Protocol):
    """What was made."""

    async def destroy(self) -> None:
        """Free it."""


S = TypeVar("S", bound=Destroyable)

_LOOK_ONLY = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)


class Arming:
    """Brings every arming to its end: a slot has its id, and the engine goes on, whoever waits for the sandbox or not.

    A sandbox for which nobody waits any more is destroyed as soon as it is armed.
    """

    def __init__(self) -> None:
        self._undoings: set[asyncio.Task[None]] = set()

    async def finish(self, making: Coroutine[Any, Any, S]) -> S:
        """What ``making`` makes, and its errors. A caller that is cancelled leaves at once, and nothing stays."""
        task = asyncio.ensure_future(making)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            undoing = asyncio.ensure_future(_undo(task))
            self._undoings.add(undoing)
            undoing.add_done_callback(self._undoings.discard)
            raise

    async def settle(self) -> None:
        """Wait until every sandbox whose caller was cancelled is destroyed."""
        while self._undoings:
            await asyncio.wait(self._undoings)


async def _undo(making: asyncio.Task[S]) -> None:
    try:
        await (await making).destroy()
    except SandboxUnavailable as error:
        _log.debug("a sandbox that nobody waits for any more was not made: %s", error)
    except Exception:  # nobody awaits this task: the log is the only place to report it
        _log.exception("a sandbox that nobody waits for any more could not be destroyed")


def is_silent(connection: socket.socket) -> bool:
    """Whether nothing waits to be read, not even the other side's end: so it is while a sandbox is armed."""
    try:
        connection.recv(1, _LOOK_ONLY)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
