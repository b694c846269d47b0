"""A zygote that is kept alive, and those of its slots that stand empty."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from codex_server.errors import SandboxUnavailable
from codex_server.sandboxes.embedded.idle import IdleSlots
from codex_server.sandboxes.embedded.zygote_process import LaunchFailed, Zygote


class ZygoteSupervisor:
    """One zygote, launched when it is first needed and again when it has died; its slots die with it."""

    def __init__(self, launch: Callable[[], Awaitable[Zygote]]) -> None:
        self._launch = launch
        self._launching = asyncio.Lock()
        self._zygote: Zygote | None = None
        self._last_failure: str | None = None
        self._closed = False
        self._restarting: asyncio.Future[None] | None = None
        self.idle = IdleSlots()

    @property
    def problem(self) -> str | None:
        """Why it can make no slot now, as a sentence; None also before its zygote was ever needed."""
        if self._last_failure is not None:
            return self._last_failure
        if self._zygote and not self._zygote.alive:
            self._restart()
        return "the zygote is being restarted" if self._restarting and not self._restarting.done() else None

    def _restart(self) -> None:
        """In the background: at level confined the armed sandboxes outlive their zygote, so nobody else may need it."""
        if self._restarting is None or self._restarting.done():
            self._restarting = asyncio.ensure_future(self._try_to_restart())

    async def _try_to_restart(self) -> None:
        with contextlib.suppress(SandboxUnavailable):  # then ``problem`` says why
            await self.zygote()

    async def open(self) -> Zygote:
        """Launch the zygote now. Raises ``LaunchFailed``."""
        self._zygote = await self._launch()
        return self._zygote

    async def zygote(self) -> Zygote:
        """The living zygote. Raises ``SandboxUnavailable``."""
        async with self._launching:
            if self._closed:
                raise SandboxUnavailable("the backend is closed")
            if self._zygote and self._zygote.alive:
                return self._zygote
            await self._end_zygote()
            try:
                zygote = await self.open()
            except LaunchFailed as failure:
                self._last_failure = f"the zygote cannot be started: {failure}"
                raise SandboxUnavailable(self._last_failure) from failure
            self._last_failure = None
            return zygote

    async def close(self) -> None:
        """End the slots that stand empty, then the zygote and whatever is in its namespaces."""
        self._closed = True
        await self.idle.close()
        async with self._launching:
            await self._end_zygote()
        if self._restarting:
            await self._restarting

    async def _end_zygote(self) -> None:
        if self._zygote:
            await self._zygote.close()
            self._zygote = None
