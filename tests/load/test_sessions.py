"""However many sessions are opened, used and dropped, in whatever way: nothing is left; idle ones use no CPU time."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.processes import NotReadable, family_of, memory_of
from tests.load.site import BEARER, PLACES, Site, site
from tests.load.test_soak import Holding
from tests.tiers import by_tier

pytestmark = [pytest.mark.anyio, pytest.mark.tier("change")]

SESSIONS = by_tier(change=40, nightly=1000, variable="CODEX_SESSIONS")
"""How many are opened and dropped at each level."""
IDLE = by_tier(change=20, nightly=200, variable="CODEX_IDLE_SESSIONS")
"""How many stand idle at once."""
MIB = 2**20
_ROOM = {
    "max_sessions": 1000,
    "max_sessions_caller": 1000,
    "sessions_memory": 2**50,
}
_BUSY = """
import subprocess, sys, threading
def work():
    while True: pass
threading.Thread(target=work, daemon=True).start()
child = subprocess.Popen([sys.executable, '-c', 'while True: pass'], start_new_session=True)
"""


async def opened(here: Site, **fields: Any) -> str:
    """The path of a new session."""
    response = await here.client.post("/sessions", json=fields, headers=BEARER)
    assert response.status_code == 201, response.text
    return f"/sessions/{response.json()['session_id']}"


async def cell(here: Site, path: str, code: str, **fields: Any) -> dict[str, Any]:
    """The response of a cell that has an outcome."""
    response = await here.client.post(f"{path}/execute", json={"code": code, **fields}, headers=BEARER)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


async def closed(here: Site, path: str) -> None:
    """End it."""
    response = await here.client.delete(path, headers=BEARER)
    assert response.is_success, response.text


async def used(here: Site, number: int) -> None:
    """Remembers, in two languages."""
    path = await opened(here)
    await cell(here, path, f"x = {number}; open('kept.txt', 'w').write(str(x))")
    assert (await cell(here, path, "x"))["result"] == {"text/plain": str(number)}
    assert (await cell(here, path, "cat kept.txt", language="bash"))["stdout"] == str(number)
    await closed(here, path)


async def unused(here: Site, number: int) -> None:
    """Is closed before its first cell."""
    await closed(here, await opened(here))


async def busy(here: Site, number: int) -> None:
    """Leaves threads and processes behind."""
    path = await opened(here)
    assert (await cell(here, path, _BUSY))["status"] == "succeeded"
    await closed(here, path)


async def taken_away(here: Site, number: int) -> None:
    """Is closed while a cell runs."""
    path = await opened(here)
    asked = asyncio.create_task(
        here.client.post(f"{path}/execute", json={"code": "while True: pass", "timeout": 20}, headers=BEARER)
    )
    await here.client.get(path, headers=BEARER)  # a cell may have begun by now, or not
    await closed(here, path)
    assert (await asked).status_code in (200, 404, 410, 503)


async def left(here: Site, number: int) -> None:
    """Expires, as its client never comes back."""
    path = await opened(here, ttl_seconds=1)
    await cell(here, path, f"x = {number}")
    async with asyncio.timeout(30):
        while (await here.client.get(path, headers=BEARER)).status_code != 410:
            await asyncio.sleep(0.1)


async def killed(here: Site, number: int) -> None:
    """Its interpreter kills itself, is beyond its time, and goes on."""
    path = await opened(here)
    assert (await cell(here, path, "import os; os.kill(os.getpid(), 9)"))["interpreter_restarted"]
    assert (await cell(here, path, "while True: pass", timeout=1))["status"] == "timed_out"
    assert (await cell(here, path, f"print({number})"))["stdout"] == f"{number}\n"
    await closed(here, path)


WAYS: tuple[Callable[[Site, int], Awaitable[None]], ...] = (used, unused, busy, taken_away, left, killed)


async def drop_all(here: Site, count: int) -> None:
    """Open and drop ``count``, each way in turn, a few at a time."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await WAYS[number % len(WAYS)](here, number)

    async with asyncio.TaskGroup() as clients:
        for _ in range(PLACES):
            clients.create_task(client())
    assert (await here.client.get("/sessions", headers=BEARER)).json()["sessions"] == []


@pytest.mark.timeout(120 + 5 * SESSIONS)
async def test_sessions_leave_nothing_behind_however_they_end(level: str, clean_host: Path):
    async with site(level, clean_host, **_ROOM) as here:
        await drop_all(here, 4 * len(WAYS))
        await here.ready()
        before = Holding.take()
        await drop_all(here, SESSIONS)
        await here.ready()
        assert await here.settled(lambda: before.grown(Holding.take())) == []


@pytest.mark.timeout(120 + 5 * IDLE)
async def test_idle_sessions_use_no_processor(level: str, clean_host: Path, capsys: pytest.CaptureFixture[str]):
    async with site(level, clean_host, **_ROOM) as here:
        armed = {process.pid for process in (*family_of(os.getpid()).inits, *family_of(os.getpid()).workers)}
        paths = [await opened(here) for _ in range(IDLE)]
        for path in paths:
            assert (await cell(here, path, _BUSY))["status"] == "succeeded"
        await here.ready()
        family = family_of(os.getpid())
        theirs = [process for process in (*family.inits, *family.workers) if process.pid not in armed]
        before = sum(process.own_cpu_seconds for process in theirs)
        await asyncio.sleep(1)
        assert sum(process.own_cpu_seconds for process in theirs) == before
        try:
            each = sum(memory_of(process).private for process in theirs) / IDLE
        except NotReadable:
            each = 0.0
        with capsys.disabled():
            sys.stdout.write(f"\n{level}: {IDLE} idle sessions, {each / MIB:.1f} MiB each, no CPU time in a second\n")
        async with asyncio.TaskGroup() as clients:
            for path in paths:
                clients.create_task(closed(here, path))
