"""A slot from the server's side, with a test in the place of its init: armed again, kept for a moment, ended."""

import asyncio
import os
import socket
import subprocess
from typing import Any

import pytest

from codex_server.errors import SandboxUnavailable
from codex_server.sandboxes.embedded import idle
from codex_server.sandboxes.embedded.channel import Channel
from codex_server.sandboxes.embedded.idle import IdleSlots
from codex_server.sandboxes.embedded.slot import Slot, SlotParts
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import encode
from tests.sandboxes.executions import FAULT, SLOT_ORDER
from tests.sandboxes.timers import timers_of

pytestmark = [pytest.mark.anyio, pytest.mark.unprivileged]


class Cgroup:
    """A cgroup that can be set back, or finds that it is not empty."""

    def __init__(self, *, empty: bool = True, resettable: bool = True) -> None:
        self.empty = empty
        self.resettable = resettable
        self.removed = False

    def reset(self, program: str) -> bool:
        return self.empty

    async def remove_soon(self) -> None:
        self.removed = True


class Far:
    """The init's side of a slot, with a real process behind its pidfd."""

    def __init__(self, number: int, cgroup: Cgroup | None = None) -> None:
        ours, self.channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        self.freed: list[int] = []
        parts = SlotParts(number, Channel(ours), os.pidfd_open(self.process.pid), {}, cgroup, None)  # type: ignore[arg-type]
        self.slot = Slot(parts, self.freed.append)

    def answer(self, kind: frames.Kind, descriptors: int, body: dict[str, Any] | None = None) -> None:
        pipes = [os.pipe() for _ in range(descriptors)]
        frames.send(self.channel, kind, body or {}, tuple(reader for reader, _ in pipes))
        for descriptor in (end for pipe in pipes for end in pipe):
            os.close(descriptor)

    async def end(self) -> None:
        await self.slot.end()
        self.channel.close()
        self.process.communicate()


@pytest.fixture
async def fars() -> Any:
    before = len(os.listdir("/proc/self/fd"))
    made: list[Far] = []

    def make(cgroup: Cgroup | None = None) -> Far:
        made.append(Far(len(made), cgroup))
        return made[-1]

    yield make
    for far in made:
        await far.end()
    assert len(os.listdir("/proc/self/fd")) == before
    assert [far.freed for far in made] == [[number] for number in range(len(made))]


async def test_a_slot_that_is_armed_again_hands_over_new_streams(fars):
    far = fars(Cgroup())
    arming = asyncio.ensure_future(far.slot.arm_again(SLOT_ORDER))
    await asyncio.sleep(0)
    kind, body, _ = frames.receive(far.channel)
    assert (kind, body) == (frames.Kind.ARM, encode(SLOT_ORDER))
    far.answer(frames.Kind.READY, 3)
    streams = await arming
    assert len(streams) == 3
    for descriptor in streams:
        os.close(descriptor)


async def test_a_slot_that_kept_memory_of_the_program_before_is_not_used_again(fars):
    far = fars(Cgroup(empty=False))
    far.answer(frames.Kind.READY, 3)
    with pytest.raises(SandboxUnavailable, match="kept memory"):
        await far.slot.arm_again(SLOT_ORDER)


async def test_a_fault_while_it_is_armed_again_reports_the_step(fars):
    far = fars()
    far.answer(frames.Kind.FAULT, 0, FAULT | {"message": "umount /tmp: Device or resource busy"})
    with pytest.raises(SandboxUnavailable, match="resource busy"):
        await far.slot.arm_again(SLOT_ORDER)


@pytest.mark.parametrize("count", [0, 2, 4])
async def test_another_number_of_streams_is_refused_and_they_are_closed(fars, count):
    far = fars()
    far.answer(frames.Kind.READY, count)
    with pytest.raises(SandboxUnavailable):
        await far.slot.arm_again(SLOT_ORDER)


async def test_a_slot_that_died_cannot_be_armed_again(fars):
    far = fars()
    far.channel.close()
    assert not far.slot.alive
    with pytest.raises(SandboxUnavailable):
        await far.slot.arm_again(SLOT_ORDER)


async def test_a_cgroup_that_cannot_be_set_back_serves_once(fars):
    assert fars().slot.reusable
    assert fars(Cgroup()).slot.reusable
    assert not fars(Cgroup(resettable=False)).slot.reusable


async def test_the_slot_that_was_used_last_is_taken_first(fars):
    slots, waiting = [fars().slot for _ in range(3)], IdleSlots()
    for slot in slots:
        waiting.put(slot)
    assert [waiting.take() for _ in range(4)] == [*reversed(slots), None]
    await waiting.close()


async def test_a_slot_that_died_while_it_stood_empty_is_passed_over_and_ended(fars):
    alive, dead, waiting = fars(), fars(), IdleSlots()
    waiting.put(alive.slot)
    waiting.put(dead.slot)
    dead.channel.close()
    assert waiting.take() is alive.slot
    assert waiting.take() is None
    await waiting.close()
    assert dead.freed == [1]
    assert alive.freed == []


async def test_a_slot_that_nobody_wants_is_ended_after_a_moment(fars, monkeypatch):
    monkeypatch.setattr(idle, "_KEEP_SECONDS", 0.01)
    far, waiting = fars(), IdleSlots()
    waiting.put(far.slot)
    await asyncio.to_thread(far.process.wait, 30)
    assert waiting.take() is None
    await waiting.close()
    assert far.freed == [0]


async def test_a_slot_that_stands_empty_is_kept_for_a_second(fars, monkeypatch):
    waiting = IdleSlots()
    requested = timers_of(waiting, monkeypatch)
    waiting.put(fars().slot)
    assert requested == [(1.0,)]
    await waiting.close()


async def test_closing_ends_every_slot_that_stands_empty(fars):
    fars_, waiting = [fars(Cgroup()), fars(Cgroup())], IdleSlots()
    for far in fars_:
        waiting.put(far.slot)
    await waiting.close()
    assert [far.freed for far in fars_] == [[0], [1]]
    assert all(far.slot.cgroup.removed for far in fars_)
