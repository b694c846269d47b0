"""The server or its zygote is killed while sessions are in use: nothing is left, and what has ended says so."""

import asyncio
import os
import signal
from typing import Any

import httpx2
import pytest

from tests.faults.running_server import BEARER, SECONDS, RunningServer, running_server, victims
from tests.host_snapshot import alive, cgroups_of, descendants
from tests.waiting import becomes, until

pytestmark = [pytest.mark.anyio, pytest.mark.tier("change")]

_BUSY = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'], start_new_session=True)"
_SLOW_SQL = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
_FOR_EVER = "print('begun', flush=True)\nwhile True: pass"


async def post(here: RunningServer, path: str, **fields: Any) -> dict[str, Any]:
    """What is returned when all goes well."""
    response = await here.client.post(path, json=fields, headers=BEARER)
    assert response.is_success, response.text
    told: dict[str, Any] = response.json()
    return told


async def in_use(here: RunningServer, level: str) -> str:
    """The path of a session with a process left over, a shell that runs a command, and a cell in the background."""
    path = f"/sessions/{(await post(here, '/sessions'))['session_id']}"
    await post(here, f"{path}/execute", code=_BUSY)
    if level != "confined":  # no shells there
        await post(here, f"{path}/shells/main", command="sleep 600", wait_seconds=0.5)
    await post(here, f"{path}/execute", code=_FOR_EVER, timeout=20, wait_seconds=0.5)
    return path


@pytest.mark.timeout(120)
async def test_a_killed_server_leaves_nothing_of_its_sessions(level: str):
    async with running_server(level) as here:
        await in_use(here, level)
        below = descendants(here.process.pid)
        here.process.kill()
        await asyncio.to_thread(here.process.wait, SECONDS)
        assert until(lambda: not any(map(alive, below))), [pid for pid in below if alive(pid)]
        assert until(lambda: cgroups_of(here.process.pid) == [])


@pytest.mark.timeout(120)
async def test_when_the_zygote_is_killed_its_sessions_end_with_a_reason_and_new_ones_open(level: str):
    async with running_server(level) as here:
        path = await in_use(here, level)
        for pid in victims(here.family(), "zygote"):
            os.kill(pid, signal.SIGKILL)

        async def ended() -> bool:
            return (await here.client.get(path, headers=BEARER)).status_code == 410

        if level == "confined":  # no pid namespace goes with its zygote: the session lives on, and can be closed
            await here.ready()
            assert (await here.client.delete(path, headers=BEARER)).status_code == 204
        await becomes(ended, SECONDS)
        if level != "confined":
            assert "sandbox" in (await here.client.get(path, headers=BEARER)).json()["detail"]
        await here.ready()
        new = f"/sessions/{(await post(here, '/sessions'))['session_id']}"
        assert (await post(here, f"{new}/execute", code="print('well')"))["stdout"] == "well\n"
        await here.assert_well()
        assert here.defects() == []


@pytest.mark.timeout(120)
async def test_a_caller_who_leaves_while_an_interpreter_starts_takes_nothing_along(level: str):
    async with running_server(level) as here:
        path = f"/sessions/{(await post(here, '/sessions'))['session_id']}"
        await post(here, f"{path}/execute", code="x = 20")
        for pause in (0.004, 0.02):  # he hangs up
            with pytest.raises(httpx2.TimeoutException):
                cell = {"language": "javascript", "code": "setTimeout(() => {}, 60000)"}
                await here.client.post(f"{path}/execute", json=cell, headers=BEARER, timeout=pause)
        cell = {"language": "bash", "code": "sleep 60", "wait_seconds": 0}
        begun = await post(here, f"{path}/execute", **cell)
        await here.client.delete(f"/executions/{begun['execution_id']}", headers=BEARER)
        late = await post(here, f"{path}/execute", language="sql", code=_SLOW_SQL, timeout=1)
        assert late["status"] == "timed_out"
        for language, code in (("javascript", "console.log(1)"), ("bash", "echo 1"), ("sql", "select 1")):
            assert (await post(here, f"{path}/execute", language=language, code=code))["status"] == "succeeded"
        assert (await post(here, f"{path}/execute", code="print(x + 1)"))["stdout"] == "21\n"
        assert here.defects() == []
