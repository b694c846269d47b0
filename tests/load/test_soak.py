"""However many executions of whatever kind: each gets its own answer, and the host then holds what it held before."""

import asyncio
import contextlib
import gc
import itertools
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.processes import NotReadable, family_of, memory_of
from tests.host_snapshot import HostSnapshot
from tests.load.programs import Kind, mix
from tests.load.site import PLACES, Site, site
from tests.tiers import by_tier

pytestmark = [pytest.mark.anyio, pytest.mark.tier("change")]

EXECUTIONS = by_tier(change=160, nightly=20_000, variable="CODEX_SOAK")
"""How many a soak runs at each level."""
CLIENTS = 2 * PLACES
MIB = 2**20
_MEMORY_SLACK = 12 * MIB
"""Of a process: pages that its allocator keeps."""
_BLOCKS_SLACK = 4000
"""Of Python's memory in this process: caches that fill up. A leak of one block by each of 20,000 is far more."""


@dataclass(frozen=True)
class Holding:
    """How much of everything there is, while the server idles with full pools."""

    counts: dict[str, int]
    blocks: int
    resident: dict[str, int]

    @classmethod
    def take(cls) -> "Holding":
        """Count and weigh."""
        gc.collect()
        snapshot, family = HostSnapshot.take(), family_of(os.getpid())
        counts = {name: len(getattr(snapshot, name)) for name in HostSnapshot.__dataclass_fields__}
        resident: dict[str, int] = {}
        for process in (family.server, *family.launchers, *family.zygotes):
            with contextlib.suppress(NotReadable):
                resident[f"process {process.pid}"] = memory_of(process).rss
        return cls(counts, sys.getallocatedblocks(), resident)

    def grown(self, later: "Holding") -> list[str]:
        """What ``later`` has more of than slack allows."""
        more = {name: later.counts[name] - count for name, count in self.counts.items()}
        grown = [f"{count} more {name}" for name, count in more.items() if count > 0]
        if later.blocks - self.blocks > _BLOCKS_SLACK:
            grown.append(f"{later.blocks - self.blocks} more blocks of Python's memory")
        for process, size in self.resident.items():
            if (added := later.resident.get(process, 0) - size) > _MEMORY_SLACK:
                grown.append(f"{process} grew by {added / MIB:.1f} MiB")
        return grown


async def run_all(site: Site, programs: list[tuple[int, Kind]]) -> None:
    """Run them, as many at a time as there are clients, and judge every answer."""
    waiting = iter(programs)

    async def client() -> None:
        for number, kind in waiting:
            kind.judge(await site.outcome(**kind.request(number)), number)

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())


@pytest.mark.timeout(120 + EXECUTIONS)
async def test_a_mix_of_executions_leaves_nothing_behind_however_many(level: str, clean_host: Path):
    programs = mix()
    async with site(level, clean_host) as here:
        await run_all(here, list(itertools.islice(programs, max(EXECUTIONS // 4, 110))))  # caches fill, every kind ran
        await here.ready()
        before = Holding.take()
        await run_all(here, list(itertools.islice(programs, EXECUTIONS)))
        await here.ready()
        assert await here.settled(lambda: before.grown(Holding.take())) == []
