"""However many streams, and however many of them are cut: the host and the server then hold what they held before."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.load.site import BEARER, PLACES, Site, site
from tests.load.test_soak import Holding
from tests.tiers import by_tier

pytestmark = [pytest.mark.anyio, pytest.mark.tier("change")]

STREAMS = by_tier(change=80, nightly=2_000, variable="CODEX_STREAMS")
"""How many, at each level; half of them are cut."""
CLIENTS = 2 * PLACES
_HEADERS = BEARER | {"Accept": "application/x-ndjson"}
_ENDS = "print('begun', flush=True)"
_WAITS = "import subprocess, time; subprocess.Popen(['sleep', '60']); print('begun', flush=True); time.sleep(60)"


async def follow(here: Site, *, cut: bool) -> None:
    """One stream: to its end, or until its program has begun and started a process."""
    body = {"code": _WAITS if cut else _ENDS, "timeout": 30}
    async with here.client.stream("POST", "/execute/stream", json=body, headers=_HEADERS) as response:
        assert response.status_code == 200
        seen = []
        async for line in response.aiter_lines():
            seen.append(json.loads(line))
            if cut and seen[-1]["type"] == "stdout":
                return
    assert [event["type"] for event in seen] == ["started", "stdout", "finished"]
    assert seen[-1]["status"] == "succeeded"


async def follow_all(here: Site, count: int) -> None:
    """As many at a time as there are clients."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await follow(here, cut=number % 2 == 0)

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())


@pytest.mark.timeout(120 + STREAMS)
async def test_streams_leave_nothing_behind_be_they_read_or_cut(level: str, clean_host: Path):
    async with site(level, clean_host) as here:
        await follow_all(here, max(STREAMS // 4, 2 * CLIENTS))  # caches fill
        await here.ready()
        await here.client.get("/executions", headers=BEARER)  # what waits for the store is written: it is open now
        before, tasks = Holding.take(), len(asyncio.all_tasks())
        await follow_all(here, STREAMS)
        await here.ready()

        def grown() -> list[str]:
            more = len(asyncio.all_tasks()) - tasks
            # The client keeps a connection or two open for its next call: both ends are in this process.
            kept = {f"{2 * count} more descriptors" for count in range(1, CLIENTS + 1)}
            found = [what for what in before.grown(Holding.take()) if what not in kept]
            return found + ([f"{more} more tasks"] if more > 0 else [])

        assert await here.settled(grown) == []
