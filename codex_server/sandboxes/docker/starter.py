"""Starts containers, each with a uid that no other container of this server has while it is there."""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator
from functools import partial

from codex_server.errors import SandboxUnavailable
from codex_server.sandboxes.docker.attachment import Attachment
from codex_server.sandboxes.docker.container import (
    OWN_MEMORY_BYTES,
    ContainerPlan,
    WorkspaceMount,
    container_config,
)
from codex_server.sandboxes.docker.engine import Engine, EngineError
from codex_server.sandboxes.docker.ownership import Ownership
from codex_server.sandboxes.docker.sandbox import Container
from codex_server.sandboxes.docker.sweeper import Sweeper
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.payload import BackendDefaults
from codex_server.sandboxes.protocol.session import MOST_IN_REPLY
from codex_server.sandboxes.seccomp.compiler import docker_profile
from codex_server.sandboxes.seccomp.policy import CONTAINER
from codex_server.settings import Settings

_UIDS = range(10_000, 12_048)
"""Those that the images name (image/prepare); below a range of 65,536, which is all that a rootless engine has."""
_TROUBLE_SECONDS = 60.0
"""Longer than the pause after which a pool that is short tries again."""


class ContainerStarter:
    """Starts containers of one engine; ``places`` is how many there may be at once."""

    def __init__(self, settings: Settings, engine: Engine, sweeper: Sweeper, ownership: Ownership, places: int) -> None:
        self._settings = settings
        self._engine = engine
        self._sweeper = sweeper
        self._ownership = ownership
        self._profile = docker_profile(CONTAINER)
        self._last_trouble: str | None = None
        self._trouble_until = 0.0
        # From a place of its own: the kernel counts the processes of a uid together, across servers too.
        first = secrets.randbelow(len(_UIDS))
        self.free_uids = deque((*_UIDS[first:], *_UIDS[:first])[:places])

    @property
    def trouble(self) -> str | None:
        """Why the last container could not be started, unless none was needed for a while since."""
        if self._last_trouble and asyncio.get_running_loop().time() > self._trouble_until:
            self._last_trouble = None
        return self._last_trouble

    async def start(
        self,
        image: str,
        kind: frames.Kind,
        body: frames.Body,
        own_memory_bytes: int = OWN_MEMORY_BYTES,
        workspace: WorkspaceMount | None = None,
    ) -> Container:
        """A started container that was sent ``body``. Raises ``SandboxUnavailable``, and ``trouble`` reports why."""
        if not self.free_uids:
            raise SandboxUnavailable("every sandbox of this server is in use; try again")
        uid = self.free_uids.popleft()
        try:
            container = await self._start(self._plan(image, uid, own_memory_bytes, workspace))
            async with removed_on_failure(container):
                container.attachment.send(kind, body)
        except (EngineError, OSError, frames.Closed) as error:
            self._last_trouble = str(error) or "the container ended at once"
            self._trouble_until = asyncio.get_running_loop().time() + _TROUBLE_SECONDS
            raise SandboxUnavailable(f"{self._last_trouble}; try again") from error
        self._last_trouble = None
        return container

    async def _start(self, plan: ContainerPlan) -> Container:
        """INVARIANT: a uid is free only once its container is gone."""
        gone = partial(self.free_uids.append, plan.uid)
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(gone)
            identifier = await self._engine.create(container_config(plan))
            undo.pop_all()
            self._sweeper.know(identifier)
            undo.push_async_callback(self._sweeper.remove, identifier, gone)
            connection = await self._engine.attach(identifier)
            most = BackendDefaults.of(self._settings).inline_total_bytes + MOST_IN_REPLY
            attachment = await Attachment.over(connection, most)
            undo.callback(attachment.close)
            await self._engine.start(identifier)
            undo.pop_all()
        return Container(identifier, attachment, plan.own_memory_bytes, partial(self._sweeper.remove, identifier, gone))

    def _plan(self, image: str, uid: int, own_memory_bytes: int, workspace: WorkspaceMount | None) -> ContainerPlan:
        return ContainerPlan(
            image=image,
            uid=uid,
            owner=self._ownership.owner,
            instance=self._ownership.instance,
            ceilings=self._settings.ceilings,
            workspace_bytes=self._settings.max_workspace,
            shm_bytes=max(self._settings.max_memory, self._settings.max_workspace),
            seccomp=self._profile,
            runtime=self._settings.docker_runtime,
            own_memory_bytes=own_memory_bytes,
            workspace=workspace,
        )


@contextlib.asynccontextmanager
async def removed_on_failure(container: Container) -> AsyncIterator[None]:
    """Remove ``container`` when what is done with it fails."""
    try:
        yield
    except BaseException:
        container.attachment.close()
        await container.remove()
        raise
