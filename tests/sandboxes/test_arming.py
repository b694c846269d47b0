"""Arming is finished whoever waits for it, and what nobody waits for any more is destroyed."""

import asyncio
import socket
from typing import Any

import pytest

from codex_server.errors import SandboxFault, SandboxUnavailable
from codex_server.sandboxes.arming import Arming, is_silent

pytestmark = pytest.mark.anyio


class Sandbox:
    """Of a sandbox what arming knows. ``destroyed`` is set when its destruction has come to its end."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.being_destroyed, self.go_on, self.destroyed = asyncio.Event(), asyncio.Event(), False
        self._failure = failure

    async def destroy(self) -> None:
        self.being_destroyed.set()
        await self.go_on.wait()
        if self._failure:
            raise self._failure
        self.destroyed = True


class Making:
    """A sandbox in the making: it is there, or fails, when the test says so."""

    def __init__(self, result: Sandbox | Exception) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self._result = result

    async def __call__(self) -> Any:
        self.begun.set()
        await self.go_on.wait()
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


async def cancelled(arming: Arming, making: Making) -> None:
    """Begin ``making``, and let the one who waits for it be cancelled."""
    caller = asyncio.ensure_future(arming.finish(making()))
    await asyncio.wait_for(making.begun.wait(), 30)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(caller, 30)


async def still_waits(task: asyncio.Future[Any]) -> bool:
    for _ in range(10):
        await asyncio.sleep(0)
    return not task.done()


@pytest.fixture
def arming() -> Arming:
    return Arming()


async def test_what_is_made_is_handed_over_and_nobody_destroys_it(arming):
    making = Making(sandbox := Sandbox())
    making.go_on.set()
    assert await arming.finish(making()) is sandbox
    await asyncio.wait_for(arming.settle(), 30)
    assert not sandbox.being_destroyed.is_set()


async def test_what_keeps_it_from_being_made_is_reported(arming):
    making = Making(SandboxUnavailable("no memory"))
    making.go_on.set()
    with pytest.raises(SandboxUnavailable, match="no memory"):
        await arming.finish(making())


async def test_a_caller_who_is_cancelled_leaves_at_once_and_the_sandbox_made_later_is_destroyed(arming):
    making = Making(sandbox := Sandbox())
    await cancelled(arming, making)
    settling = asyncio.ensure_future(arming.settle())
    assert await still_waits(settling)
    making.go_on.set()
    await asyncio.wait_for(sandbox.being_destroyed.wait(), 30)
    assert await still_waits(settling)
    sandbox.go_on.set()
    await asyncio.wait_for(settling, 30)
    assert sandbox.destroyed


async def test_at_whichever_moment_the_caller_is_cancelled_the_sandbox_is_his_or_destroyed(arming):
    ends = []
    for turns in range(1, 8):
        making = Making(sandbox := Sandbox())
        making.go_on.set()
        sandbox.go_on.set()
        caller = asyncio.ensure_future(arming.finish(making()))
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        await asyncio.wait_for(arming.settle(), 30)
        ends.append((caller.cancelled(), sandbox.destroyed))
    assert set(ends) == {(True, True), (False, False)}


async def test_one_whose_making_fails_after_its_caller_was_cancelled_leaves_nothing_to_wait_for(arming):
    making = Making(SandboxUnavailable("no memory"))
    await cancelled(arming, making)
    making.go_on.set()
    await asyncio.wait_for(arming.settle(), 30)


async def test_the_wait_goes_on_to_the_last_though_one_cannot_be_destroyed_which_is_logged(arming, caplog):
    makings = [Making(stuck := Sandbox(SandboxFault("it would not go"))), Making(other := Sandbox())]
    for making in makings:
        await cancelled(arming, making)
        making.go_on.set()
    settling = asyncio.ensure_future(arming.settle())
    stuck.go_on.set()
    assert await still_waits(settling)
    other.go_on.set()
    await asyncio.wait_for(settling, 30)
    assert other.destroyed
    assert [record.exc_info[1].detail for record in caplog.records] == ["it would not go"]


async def test_who_is_cancelled_while_waiting_cancels_no_destruction(arming):
    making = Making(sandbox := Sandbox())
    await cancelled(arming, making)
    making.go_on.set()
    settling = asyncio.ensure_future(arming.settle())
    await asyncio.wait_for(sandbox.being_destroyed.wait(), 30)
    settling.cancel()
    await asyncio.wait([settling])
    sandbox.go_on.set()
    await asyncio.wait_for(arming.settle(), 30)
    assert sandbox.destroyed


def test_only_an_open_connection_without_a_word_is_silent():
    ours, theirs = socket.socketpair()
    with ours, theirs:  # one that blocks: looking does not wait either
        assert is_silent(ours)
        theirs.send(b"?")
        assert not is_silent(ours)
        assert ours.recv(2) == b"?"  # looking took nothing
        assert is_silent(ours)
        theirs.close()
        assert not is_silent(ours)
    assert not is_silent(ours)
