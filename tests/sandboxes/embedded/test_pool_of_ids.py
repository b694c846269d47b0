"""The numbers of slots, from which come their ids: no two living slots have one, and none is lost."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from codex_server.errors import SandboxUnavailable
from codex_server.languages import Languages
from codex_server.sandboxes.embedded import slot
from codex_server.sandboxes.embedded.backend import EmbeddedBackend
from codex_server.sandboxes.embedded.channel import Channel
from codex_server.sandboxes.embedded.plans import SlotPlan
from codex_server.sandboxes.embedded.zygote_supervisor import ZygoteSupervisor
from codex_server.sandboxes.protocol.slot import SlotOrder
from codex_server.settings import Settings
from tests.sandboxes.executions import SLOT_ORDER

pytestmark = [pytest.mark.anyio, pytest.mark.unprivileged]


class Processes:
    """In the place of a zygote and its plans: each slot is a process that does nothing."""

    alive = True

    def __init__(self) -> None:
        self.silence, writer = os.pipe()
        self.inits: dict[int, subprocess.Popen[bytes]] = {}
        self.ends: list[socket.socket | int] = [self.silence, writer]
        self.numbers: list[int] = []
        self.failure: Exception | None = None
        self.held: asyncio.Event | None = None

    def slot(self, number: int, agent: object) -> SlotPlan:
        return SlotPlan(replace(SLOT_ORDER, number=number), None)

    async def launch(self) -> "Processes":
        return self

    async def arm(self, order: SlotOrder, cgroups: list[int]) -> tuple[Channel, list[int]]:
        if self.failure:
            raise self.failure
        number = order.number
        if self.held:
            await self.held.wait()
        before = self.inits.get(number)
        assert before is None or before.poll() is not None, f"number {number} is given to two living slots"
        self.numbers.append(number)
        self.inits[number] = init = subprocess.Popen(["cat"], stdin=self.silence)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stdin, stdout, stderr = (os.pipe() for _ in range(3))
        self.ends += [theirs, stdin[0], stdout[1], stderr[1]]
        return Channel(ours), [os.pidfd_open(init.pid), stdin[1], stdout[0], stderr[0]]

    async def close(self) -> None:
        """End what is left."""
        for init in self.inits.values():
            init.kill()
            init.wait()
        for end in self.ends:
            end.close() if isinstance(end, socket.socket) else os.close(end)
        self.ends.clear()


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    before = len(os.listdir("/proc/self/fd"))
    processes = Processes()
    yield processes
    await processes.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
async def backend(processes: Processes, languages: Languages) -> AsyncIterator[EmbeddedBackend]:
    backend = EmbeddedBackend(Settings(max_concurrency=1, max_sessions=1, pool_sizes={"python": 1}), languages)
    backend._plans = processes  # type: ignore[assignment]
    backend._plain = ZygoteSupervisor(processes.launch)  # type: ignore[arg-type]
    yield backend
    await backend.close()


@pytest.fixture
def python(languages):
    return next(iter(languages))


async def arm_all(backend: EmbeddedBackend, python: Any) -> list[Any]:
    """Arm until no number is left."""
    armed = []
    while True:
        try:
            armed.append(await backend.arm(python))
        except SandboxUnavailable as error:
            assert "every sandbox of this server is in use" in str(error)
            return armed


async def destroy(armed: list[Any]) -> None:
    await asyncio.gather(*(sandbox.destroy() for sandbox in armed))


async def test_every_living_slot_has_its_own_number_and_there_are_no_more_than_were_counted(backend, processes, python):
    armed = await arm_all(backend, python)
    assert sorted(processes.numbers) == list(range(len(armed)))
    assert len(armed) > 2
    await destroy(armed)


async def test_a_number_comes_back_when_its_slot_is_dead(backend, processes, python):
    armed = await arm_all(backend, python)
    freed = processes.numbers[1]
    await armed.pop(1).destroy()
    assert processes.inits[freed].poll() is not None
    armed.append(await backend.arm(python))
    assert processes.numbers[-1] == freed
    await destroy(armed)


async def test_all_numbers_come_back_however_often_they_are_used(backend, processes, python):
    count = 0
    for _ in range(3):
        armed = await arm_all(backend, python)
        assert count in (0, len(armed))
        count = len(armed)
        await destroy(armed)


async def test_a_number_whose_slot_could_not_be_armed_comes_back(backend, processes, python):
    processes.failure = SandboxUnavailable("no memory")
    for _ in range(40):
        with pytest.raises(SandboxUnavailable, match="no memory"):
            await backend.arm(python)
    processes.failure = None
    armed = await arm_all(backend, python)
    assert sorted(processes.numbers) == list(range(len(armed)))
    await destroy(armed)


async def test_a_number_whose_arming_was_cancelled_comes_back_and_nothing_of_it_stays(backend, processes, python):
    everything = len(await _armed_and_destroyed(backend, python))
    processes.held = asyncio.Event()
    before = asyncio.all_tasks()
    arming = [asyncio.ensure_future(backend.arm(python)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in arming:
        task.cancel()
    assert [type(result) for result in await asyncio.gather(*arming, return_exceptions=True)] == [
        asyncio.CancelledError
    ] * 3
    processes.held.set()
    await asyncio.gather(*(asyncio.all_tasks() - before))
    processes.held = None
    assert len(await _armed_and_destroyed(backend, python)) == everything


async def test_closing_waits_for_an_arming_that_was_cancelled(backend, processes, python, monkeypatch):
    async def outlive() -> None:
        """A zygote that goes on with what was requested."""

    processes.held = asyncio.Event()
    arming = asyncio.ensure_future(backend.arm(python))
    await asyncio.sleep(0)
    arming.cancel()
    await asyncio.wait([arming])
    with monkeypatch.context() as patch:
        patch.setattr(processes, "close", outlive)
        closing = asyncio.ensure_future(backend.close())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not closing.done()
        processes.held.set()
        await asyncio.wait_for(closing, 30)
    assert [init.poll() is None for init in processes.inits.values()] == [False]


async def _armed_and_destroyed(backend: EmbeddedBackend, python: Any) -> list[Any]:
    armed = await arm_all(backend, python)
    await destroy(armed)
    return armed


async def test_a_number_whose_slot_does_not_die_is_never_given_again(backend, processes, python, monkeypatch):
    first = await backend.arm(python)
    stuck = processes.numbers[0]
    with monkeypatch.context() as patch:
        patch.setattr(slot, "_DEATH_SECONDS", 0)
        patch.setattr(slot.Slot, "kill", lambda self: None)
        await first.destroy()
    armed = await arm_all(backend, python)
    assert stuck not in processes.numbers[1:]
    await destroy(armed)


async def test_a_closed_backend_arms_nothing(backend, processes, python):
    await backend.close()
    with pytest.raises(SandboxUnavailable, match="closed"):
        await backend.arm(python)
    assert processes.numbers == []
