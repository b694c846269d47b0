"""Removes containers: those of this server that are done with, and those that a dead server left behind."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from codex_server.sandboxes.docker.container import INSTANCE_LABEL, OWNER_LABEL
from codex_server.sandboxes.docker.engine import Engine, EngineError, EngineRefused
from codex_server.sandboxes.docker.ownership import Ownership

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 60.0
"""How often it looks for what was left behind."""
_SECOND_TRY_SECONDS = 0.25
_REMOVALS_AT_ONCE = 2
"""So that clearing up leaves the engine time to make new containers."""


class Sweeper:
    """Knows every container that this server uses; whatever else of its owner's is there, and nobody's, is removed."""

    def __init__(self, engine: Engine, ownership: Ownership) -> None:
        self._engine = engine
        self._ownership = ownership
        self._known: set[str] = set()
        self._left: dict[str, Callable[[], None]] = {}
        self._strays: set[str] = set()
        self._removals = asyncio.Semaphore(_REMOVALS_AT_ONCE)
        self._timer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from time to time, in the background."""
        self._timer = asyncio.create_task(self._keep_sweeping(), name="sweep containers")

    def know(self, container: str) -> None:
        """This one is in use."""
        self._known.add(container)

    async def remove(self, container: str, gone: Callable[[], None]) -> None:
        """Remove a container that is done with, then call ``gone``; where the engine would not, a later sweep does."""
        try:
            async with self._removals:
                await self._insist(container)
        except EngineError as error:
            _log.warning("a container is left for the next sweep: %s", error)
            self._left[container] = gone
        else:
            gone()
        finally:
            self._known.discard(container)

    async def _insist(self, container: str) -> None:
        """Remove it, at the second try where need be: an engine now and then finds one busy that is just ending."""
        try:
            await self._engine.remove(container)
        except EngineRefused:
            await asyncio.sleep(_SECOND_TRY_SECONDS)
            await self._engine.remove(container)

    async def sweep(self) -> None:
        """Remove what nobody uses. Raises ``EngineError`` when the engine does not answer, or keeps one of them.

        INVARIANT: a container of another server is removed only when that server is known to be dead; one of this
        server's only when it is done with, or when two sweeps found it without a user, for one may be in the making.
        """
        left = set(self._left)
        found = dict(await self._engine.containers([f"{OWNER_LABEL}={self._ownership.owner}"]))
        mine = {name for name, labels in found.items() if labels.get(INSTANCE_LABEL) == self._ownership.instance}
        orphans = found.keys() - mine if self._ownership.alone() else set()
        strays = mine - self._known - self._left.keys()
        again, self._strays = strays & self._strays, strays
        try:
            await self._remove_all((mine & left) | again | orphans)
        finally:
            for container in left - mine:
                self._left.pop(container)()

    async def _remove_all(self, containers: Iterable[str]) -> None:
        """Remove each. One that the engine keeps does not keep the others; that is reported in the end."""
        kept: EngineRefused | None = None
        for container in containers:
            try:
                await self._engine.remove(container)
            except EngineRefused as error:
                kept = error
            else:
                self._left.pop(container, _nothing)()
        if kept:
            raise kept

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                await self.sweep()
            except EngineError as error:
                _log.warning("no sweep now: %s", error)

    async def close(self) -> None:
        """Stop looking, and remove every container of this server that is still there."""
        if self._timer:
            self._timer.cancel()
            await asyncio.wait([self._timer])
        with contextlib.suppress(EngineError):  # then the next start's sweep finds them
            found = await self._engine.containers([f"{INSTANCE_LABEL}={self._ownership.instance}"])
            await self._remove_all(container for container, _ in found)


def _nothing() -> None:
    """Nobody waits for this one's end."""
