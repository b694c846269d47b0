"""A part of the server is killed at any moment, under load, again and again: no answer is wrong, the server heals."""

import os
import random
import signal

import pytest

from tests.faults.running_server import Heard, LoadClients, RunningServer, running_server, victims
from tests.tiers import by_tier

pytestmark = [pytest.mark.anyio, pytest.mark.tier("change")]

KILLS = by_tier(change=3, nightly=36, variable="CODEX_FAULTS")
"""How many of each kind."""
CLIENTS = 6
LOST = {"sandbox-fault", "sandbox-unavailable", "busy"}
"""What a caller may be told when our part was killed."""


def judge(heard: Heard) -> str:
    """An answer that is not right is a problem that says so, or tells that the kernel killed the program."""
    if (problem := heard.problem) is not None:
        assert problem in LOST, heard.answer.text
        return problem
    told = heard.answer.json()
    assert (told["status"], told["signal"], told["exit_code"]) == ("signalled", "SIGKILL", 137), told
    assert heard.wanted.startswith(told["stdout"]), told
    return "signalled"


async def kill_one(here: RunningServer, role: str) -> bool:
    """Kill one of ``role``; False where none is there at the moment."""
    found = victims(here.family(), role)
    if not found:
        return False
    try:
        os.kill(random.choice(found), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(180 + 20 * KILLS)
@pytest.mark.parametrize("role", ["worker", "init", "zygote", "launcher"])
async def test_whoever_is_killed_no_answer_is_wrong_or_mixed_up_and_the_server_heals(level: str, role: str):
    async with running_server(level) as here:
        clients = LoadClients(here, judge)
        async with clients.asking(CLIENTS):
            killed = 0
            while killed < KILLS:
                await clients.answers(random.randint(1, 8))
                killed += await kill_one(here, role)
            await clients.answers(CLIENTS)
        assert clients.heard["right"] > 0, clients.heard
        if role != "worker":
            assert not clients.heard["signalled"], "a program whose sandbox was taken away was not killed by itself"
        await here.assert_well()
        assert here.defects() == []
        assert await here.stop(signal.SIGTERM) == 0
