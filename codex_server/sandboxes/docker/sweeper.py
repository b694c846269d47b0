"""Removes containers: those of this server that are done with, and those that a dead server left behind."""

import asyncio
import contextlib
import logging

from codex_server.sandboxes.docker.container import INSTANCE_LABEL, OWNER_LABEL
from codex_server.sandboxes.docker.engine import Engine, EngineError
from codex_server.sandboxes.docker.ownership import Ownership

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 60.0
"""How often it looks for what was left behind."""
_REMOVALS_AT_ONCE = 2
"""So that clearing up leaves the engine room to make new containers."""


class Sweeper:
    """Knows every container that this server uses; whatever else of its owner's is there, and nobody's, is removed."""

    def __init__(self, engine: Engine, ownership: Ownership) -> None:
        self._engine = engine
        self._ownership = ownership
        self._known: set[str] = set()
        self._strays: set[str] = set()
        self._removals = asyncio.Semaphore(_REMOVALS_AT_ONCE)
        self._timer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from time to time, in the background."""
        self._timer = asyncio.create_task(self._keep_sweeping(), name="sweep containers")

    def know(self, container: str) -> None:
        """This one is in use."""
        self._known.add(container)

    async def remove(self, container: str) -> bool:
        """Remove a container that is done with. False when the engine would not: the next sweep tries again."""
        try:
            async with self._removals:
                await self._engine.remove(container)
        except EngineError as error:
            _log.warning("a container is left for the next sweep: %s", error)
            return False
        finally:
            self._known.discard(container)
        return True

    async def sweep(self) -> None:
        """Remove what nobody uses. Raises ``EngineError`` when the engine does not answer.

        INVARIANT: a container of another server is removed only when that server is known to be dead; one of this
        server's only when two sweeps found it without a user, for one may be in the making.
        """
        found = await self._engine.containers([f"{OWNER_LABEL}={self._ownership.owner}"])
        alone = self._ownership.alone()
        strays = set()
        for container, labels in found:
            if labels.get(INSTANCE_LABEL) != self._ownership.instance:
                if alone:
                    await self._engine.remove(container)
            elif container not in self._known:
                strays.add(container)
        for container in strays & self._strays:
            await self._engine.remove(container)
        self._strays = strays

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
            for container, _ in await self._engine.containers([f"{INSTANCE_LABEL}={self._ownership.instance}"]):
                await self._engine.remove(container)
