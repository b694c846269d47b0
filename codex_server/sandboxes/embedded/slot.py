"""A slot as the server sees it: its init, which serves one execution after another, and all that belongs to it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from codex_server.errors import SandboxUnavailable
from codex_server.sandboxes.embedded.cgroup import SlotCgroup
from codex_server.sandboxes.embedded.channel import Channel, close_all, wait_for_exit
from codex_server.sandboxes.guest.removal import remove_tree
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import decode, encode
from codex_server.sandboxes.protocol.report import failure_in
from codex_server.sandboxes.protocol.slot import SlotOrder, SlotReady

PATIENCE_SECONDS = 5.0
"""At level ``confined`` an init that is killed takes nobody with it; its zygote finds them: so long it has."""
_ARM_SECONDS = 30.0
_DEATH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class SlotParts:
    """Everything that belongs to one slot. ``folder``: its own folder on the host, at level ``confined``."""

    number: int
    channel: Channel
    pidfd: int
    environment: dict[str, str]
    cgroup: SlotCgroup | None
    folder: Path | None


class Slot:
    """A living init with its namespaces, cgroup and uid. ``on_ended`` gets its number when all of it is gone."""

    def __init__(self, parts: SlotParts, on_ended: Callable[[int], None]) -> None:
        self._parts = parts
        self._on_ended = on_ended
        self._ending: asyncio.Task[None] | None = None
        self.channel = parts.channel
        self.environment = parts.environment
        self.cgroup = parts.cgroup
        self.folder = parts.folder

    @property
    def number(self) -> int:
        """Its place among the backend's slots, and so its uid."""
        return self._parts.number

    @property
    def pidfd(self) -> int:
        """Its init's."""
        return self._parts.pidfd

    @property
    def alive(self) -> bool:
        """A slot that waits sends nothing: any byte, or its end, means that it died."""
        return self._ending is None and self.channel.is_silent()

    @property
    def reusable(self) -> bool:
        """Whether it can serve again: it has namespaces of its own, and what its cgroup counted can be set back."""
        return self.folder is None and (self.cgroup is None or self.cgroup.resettable)

    async def arm_again(self, order: SlotOrder) -> list[int]:
        """Have a worker started in it: the server's ends of its streams. Raises ``SandboxUnavailable``.

        INVARIANT: what the slot served before is gone: its init has killed and reaped everyone, and replaced what they
        could write; and its cgroup holds no more than when it was new.
        """
        try:
            self.channel.send(frames.Kind.ARM, encode(order))
            streams = await receive_ready(self.channel, order.stdio.ends)
        except (frames.Closed, OSError) as error:
            raise SandboxUnavailable("a sandbox could not be armed again") from error
        if self.cgroup is None or self.cgroup.reset(order.program):
            return streams
        close_all(streams)
        raise SandboxUnavailable("a sandbox kept memory of the program before")

    def kill(self) -> None:
        """Kill the init. INVARIANT: it is PID 1 of the slot, so its whole tree dies, daemons and double forks too."""
        if self._ending is None or not self._ending.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    async def end(self) -> None:
        """Kill and free everything; safe to call twice, and goes on when the caller is cancelled."""
        if self._ending is None:
            if not self.folder:
                self.kill()  # at once: its program may still run
            self.channel.close()  # at level ``confined`` this is what ends it
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        try:
            if not await self._init_ended():
                return  # its id and cgroup stay taken: they are not given to another slot
            if self.cgroup:
                await self.cgroup.remove_soon()
            if self.folder:
                await _remove_soon(str(self.folder))
            self._on_ended(self.number)
        finally:
            os.close(self.pidfd)

    async def _init_ended(self) -> bool:
        """Whether the init is dead, and all of its guest: at level ``confined`` it must kill them before it goes."""
        if self.folder and await wait_for_exit(self.pidfd, PATIENCE_SECONDS):
            return True
        self.kill()
        return await wait_for_exit(self.pidfd, _DEATH_SECONDS)


async def receive_ready(channel: Channel, count: int) -> list[int]:
    """The ``count`` descriptors of a READY frame. Raises ``SandboxUnavailable``."""
    descriptors: list[int] = []
    try:
        async with asyncio.timeout(_ARM_SECONDS):
            kind, body, descriptors = await channel.receive()
        if kind is frames.Kind.READY and len(descriptors) == count:
            decode(SlotReady, body)
            return descriptors
        reason = failure_in(kind, body)
    except (frames.Closed, frames.BadFrame, OSError, TimeoutError) as error:
        close_all(descriptors)
        raise SandboxUnavailable(f"a sandbox could not be armed ({type(error).__name__})") from error
    close_all(descriptors)
    raise SandboxUnavailable(f"a sandbox could not be armed: {reason}")


async def _remove_soon(folder: str) -> None:
    """Remove a slot's folder. Where its init was killed its zygote may still be ending the guest, who may still write.

    What is left after that goes when the backend is closed.
    """
    for pause in (0.0, 0.05, 0.5):
        await asyncio.sleep(pause)
        with contextlib.suppress(OSError):
            return await asyncio.to_thread(remove_tree, folder)
