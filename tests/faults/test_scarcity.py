"""Where the host has no processes, memory or disk left for the server, it says so, does not hang, and recovers."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest

from benchmarks.processes import Process
from tests.faults.running_server import Heard, LoadClients, RunningServer, running_server
from tests.faults.scarcity import SmallDisk, corner, forbid_forks, small_disk

pytestmark = [pytest.mark.anyio, pytest.mark.tier("change")]

MIB = 2**20
CLIENTS = 4


def judge(heard: Heard) -> str:
    """Where something is missing a caller is told that this server cannot now, or that a sandbox was lost."""
    problem = heard.problem
    assert problem in ("sandbox-unavailable", "sandbox-fault", "busy"), heard.answer.text
    return problem


async def until_refused(clients: LoadClients) -> None:
    """Return when somebody was refused: what stood ready is then used up."""
    while not sum(count for word, count in clients.heard.items() if word != "right"):
        await clients.answers(1)


async def assert_scarce_then_well(here: RunningServer, clients: LoadClients) -> None:
    assert clients.heard["sandbox-unavailable"] > 0, clients.heard
    await here.assert_well()
    assert here.defects() == []
    assert await here.stop(signal.SIGTERM) == 0


async def test_when_no_process_can_be_forked_for_sandboxes_callers_are_told_and_it_recovers(level: str):
    async with running_server(level) as here:
        clients = LoadClients(here, judge)
        async with clients.asking(CLIENTS):
            await clients.answers(CLIENTS)
            while not clients.heard["sandbox-unavailable"]:
                forbid_forks(here.family(), forbid=True)
                await clients.answers(1)
            assert (await here.client.get("/livez")).status_code == 200
            forbid_forks(here.family(), forbid=False)
            before = clients.heard["right"]
            while clients.heard["right"] == before:
                await clients.answers(1)
        await assert_scarce_then_well(here, clients)


async def test_when_the_host_has_no_process_left_callers_are_told_and_it_recovers(level: str):
    with corner("pids", "pids.max", "pids.max") as place:
        async with running_server(level, *place.entrance) as here:
            clients = LoadClients(here, judge)
            async with clients.asking(CLIENTS):
                await clients.answers(CLIENTS)
                place.limit(1)  # those that are there live on
                await until_refused(clients)
                await clients.answers(2 * CLIENTS)
                assert (await here.client.get("/livez")).status_code == 200
                place.limit(None)
            await assert_scarce_then_well(here, clients)


async def test_when_the_host_has_no_memory_left_no_answer_is_wrong_and_it_recovers(level: str):
    hungry = "kept = []\nwhile True: kept.append(bytes(b'x' * (1 << 20)))"
    with corner("memory", "memory.limit_in_bytes", "memory.max") as place:
        async with running_server(level, *place.entrance) as here:
            used = place.read("memory.usage_in_bytes" if "in_bytes" in place._limit else "memory.current")
            place.limit(used + 200 * MIB)
            clients = LoadClients(here, judge_short_of_memory)
            async with clients.asking(CLIENTS):
                for _ in range(3):
                    answers = await asyncio.gather(*(here.execute(code=hungry, timeout=5) for _ in range(2)))
                    for answer in answers:
                        heard = Heard(answer, "")
                        assert heard.problem in (None, "sandbox-unavailable", "sandbox-fault", "busy"), answer.text
                        if heard.problem is None:
                            assert answer.json()["status"] in ("memory_exceeded", "failed", "signalled"), answer.text
                assert (await here.client.get("/livez")).status_code == 200
                place.limit(None)
                await clients.answers(CLIENTS)
            assert clients.heard["right"] > 0
            await here.assert_well()
            assert await here.stop(signal.SIGTERM) == 0


def judge_short_of_memory(heard: Heard) -> str:
    """The kernel may choose any program; then that is what its caller is told."""
    if heard.answer.status_code != 200:
        return judge(heard)
    told = heard.answer.json()
    assert told["status"] in ("memory_exceeded", "signalled", "failed"), told
    assert heard.wanted.startswith(told["stdout"]), told
    return str(told["status"])


async def test_a_full_state_disk_stops_no_execution_and_a_new_token_is_refused_with_the_cause(level: str):
    with small_disk() as disk:
        async with running_server(level, *disk.entrance, CODEX_STATE_DIR=str(disk.folder)) as here:
            disk.fill()
            await here.assert_well()
            refused = codex_server(disk, "token", "create", "another")
            assert refused.returncode == 1
            assert "No space left on device" in refused.stderr
            assert "CODEX_STATE_DIR" in refused.stderr
            assert await here.stop(signal.SIGTERM) == 0


def test_a_server_that_cannot_keep_its_first_token_does_not_start_and_says_why():
    with small_disk() as disk:
        disk.fill()
        refused = codex_server(disk, "serve", "--port", "0", "--no-data")
    assert refused.returncode == 1
    assert "No space left on device" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_when_the_disk_of_temporary_files_is_full_callers_are_told_and_it_recovers(level: str):
    with small_disk() as disk:
        async with running_server(level, *disk.entrance, TMPDIR=str(disk.folder)) as here:
            clients = LoadClients(here, judge)
            async with clients.asking(CLIENTS):
                while not clients.heard["sandbox-unavailable"]:
                    kill_all(here.family().zygotes)  # a new one needs a file for what it says
                    disk.fill()  # the old one's too
                    await clients.answers(1)
                disk.empty()
            await assert_scarce_then_well(here, clients)


def kill_all(processes: tuple[Process, ...]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def codex_server(disk: SmallDisk, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command with its state folder on ``disk``."""
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CODEX_STATE_DIR": str(disk.folder)}
    return subprocess.run(
        [*disk.entrance, sys.executable, "-m", "codex_server", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )
