"""A part of the server is killed in the middle of a stream: the stream ends, and says the truth as far as it can."""

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.running_server import BEARER, RunningServer, running_server, victims
from tests.waiting import becomes

pytestmark = [pytest.mark.anyio, pytest.mark.tier("change"), pytest.mark.timeout(180)]

WAITS = "import time; print('began', flush=True); time.sleep(60); print('ended')"


@contextlib.asynccontextmanager
async def begun(here: RunningServer) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """A stream whose program has printed its first word: the events that follow."""
    headers = BEARER | {"Accept": "application/x-ndjson"}
    async with here.client.stream(
        "POST", "/execute/stream", json={"code": WAITS, "timeout": 30}, headers=headers
    ) as it:
        assert it.status_code == 200
        events = (json.loads(line) async for line in it.aiter_lines())
        first, second = await anext(events), await anext(events)
        assert (first["type"], second["type"], second["text"]) == ("started", "stdout", "began\n")
        yield events


def kill(here: RunningServer, role: str) -> None:
    """Kill every process of ``role``, so also the one that the program depends on."""
    for pid in victims(here.family(), role):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def in_background(here: RunningServer) -> str:
    """The id of a program that runs in the background and has printed its first word."""
    answer = await here.execute(code=WAITS, timeout=60, wait_seconds=0)
    assert answer.status_code == 202, answer.text
    execution_id = str(answer.json()["execution_id"])

    async def printed() -> bool:
        return bool((await told(here, execution_id))["stdout"] == "began\n")

    await becomes(printed, 60.0)
    return execution_id


async def told(here: RunningServer, execution_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await here.client.get(f"/executions/{execution_id}", headers=BEARER)).json()
    return found


@pytest.mark.parametrize("role", ["init", "zygote"])
async def test_a_stream_whose_sandbox_is_taken_away_ends_with_a_problem(level: str, role: str):
    async with running_server(level) as here:
        execution_id = await in_background(here)
        if (level, role) == ("confined", "zygote"):
            await assert_it_outlives_the_zygote(here, execution_id)
            return
        async with begun(here) as events:
            kill(here, role)
            rest = [event async for event in events]
        assert [(event["type"], event["code"]) for event in rest] == [("problem", "sandbox-fault")], rest

        async def ended() -> bool:
            return bool((await told(here, execution_id))["status"] == "lost")

        await becomes(ended, 60.0)
        assert (await told(here, execution_id))["problem"]["code"] == "sandbox-fault"
        await here.assert_well()
        assert here.defects() == []
        assert await here.stop(signal.SIGTERM) == 0


async def assert_it_outlives_the_zygote(here: RunningServer, execution_id: str) -> None:
    """Without a pid namespace the program needs its init alone: it goes on, and its end is the truth."""
    kill(here, "zygote")
    await here.assert_well()
    assert (await told(here, execution_id))["status"] == "running"
    ended = (await here.client.delete(f"/executions/{execution_id}", headers=BEARER)).json()
    assert (ended["status"], ended["stdout"]) == ("cancelled", "began\n")
    assert here.defects() == []
    assert await here.stop(signal.SIGTERM) == 0


async def test_a_stream_of_a_killed_server_is_cut_and_what_ran_in_the_background_is_lost(level: str, tmp_path: Path):
    state = str(tmp_path / "state")
    async with running_server(level, CODEX_STATE_DIR=state) as here:
        execution_id = await in_background(here)
        with pytest.raises(httpx2.TransportError):
            async with begun(here) as events:
                assert await here.stop(signal.SIGKILL) == -signal.SIGKILL
                rest = [event async for event in events]
                assert rest == [], "a stream that was cut has no last event"
    async with running_server(level, CODEX_STATE_DIR=state) as again:
        found = await told(again, execution_id)
        assert (found["status"], found["problem"]["code"]) == ("lost", "execution-lost")
        await again.assert_well()
