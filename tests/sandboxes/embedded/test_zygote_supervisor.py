"""A supervisor with a test in the place of its zygote: launched when needed, again when dead, never after its end."""

import asyncio
from typing import Any

import pytest

from codex_server.errors import SandboxUnavailable
from codex_server.sandboxes.embedded.zygote_process import LaunchFailed
from codex_server.sandboxes.embedded.zygote_supervisor import ZygoteSupervisor

pytestmark = [pytest.mark.anyio, pytest.mark.unprivileged]


class Zygote:
    def __init__(self) -> None:
        self.alive = True
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Launches:
    """Launches zygotes, or fails to."""

    def __init__(self) -> None:
        self.zygotes: list[Zygote] = []
        self.fails = False

    async def __call__(self) -> Any:
        await asyncio.sleep(0)
        if self.fails:
            raise LaunchFailed("exec", 12, "no memory")
        self.zygotes.append(Zygote())
        return self.zygotes[-1]


@pytest.fixture
def launches() -> Launches:
    return Launches()


@pytest.fixture
def supervisor(launches: Launches) -> ZygoteSupervisor:
    return ZygoteSupervisor(launches)


async def test_nothing_is_launched_before_it_is_needed(supervisor, launches):
    assert launches.zygotes == []
    assert supervisor.problem is None


async def test_everyone_who_needs_it_at_once_gets_the_same_one(supervisor, launches):
    found = await asyncio.gather(*(supervisor.zygote() for _ in range(5)))
    assert found == launches.zygotes * 5
    assert len(launches.zygotes) == 1


async def test_a_dead_one_is_a_problem_until_another_is_launched(supervisor, launches):
    await supervisor.open()
    launches.zygotes[0].alive = False
    assert supervisor.problem == "the zygote is being restarted"
    assert await supervisor.zygote() is launches.zygotes[1]
    assert launches.zygotes[0].closed
    while supervisor.problem:
        await asyncio.sleep(0)


async def test_a_dead_one_is_restarted_when_somebody_asks_how_it_is_though_nobody_needs_it(supervisor, launches):
    await supervisor.open()
    launches.zygotes[0].alive = False
    while supervisor.problem:
        await asyncio.sleep(0)
    assert len(launches.zygotes) == 2
    launches.zygotes[1].alive, launches.fails = False, True
    while supervisor.problem == "the zygote is being restarted":
        await asyncio.sleep(0)
    assert "no memory" in supervisor.problem
    await supervisor.close()


async def test_one_that_cannot_be_launched_is_reported_and_tried_again(supervisor, launches):
    launches.fails = True
    with pytest.raises(SandboxUnavailable, match="cannot be started: no memory"):
        await supervisor.zygote()
    assert "no memory" in supervisor.problem
    launches.fails = False
    assert await supervisor.zygote() is launches.zygotes[0]
    assert supervisor.problem is None


async def test_a_closed_one_launches_nothing(supervisor, launches):
    await supervisor.zygote()
    await supervisor.close()
    await supervisor.close()
    assert launches.zygotes[0].closed
    with pytest.raises(SandboxUnavailable, match="closed"):
        await supervisor.zygote()
    assert len(launches.zygotes) == 1
