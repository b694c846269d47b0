"""Nothing in the event loop waits for a disk, a lock, a pipe or a process: while it did, nobody was served."""

import asyncio
import base64
import contextlib
import os
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blockbuster.blockbuster
import pytest
from blockbuster import BlockBuster

from benchmarks.processes import family_of
from codex_server.access.tokens import TokenStore
from tests.host_snapshot import alive
from tests.load.programs import KINDS
from tests.load.site import BEARER, Site, site
from tests.waiting import becomes, until

pytestmark = [pytest.mark.anyio, pytest.mark.tier("change")]

HARMLESS = (
    ("os.mkdir", "embedded/cgroup.py", "__init__", "a folder in the kernel's own file system: no disk is behind it"),
    ("os.rmdir", "embedded/cgroup.py", "_remove", "the same"),
    ("os.stat", "embedded/cgroup.py", "find", "whether the kernel has that file: asked once for each name"),
    ("os.read", "embedded/cgroup.py", "_read", "a number from the kernel's own file system"),
    ("os.write", "embedded/cgroup.py", "_write", "a number into the kernel's own file system"),
    ("os.write", "embedded/cgroup.py", "reset", "the same"),
    ("os.write", "embedded/cgroup.py", "_open_to_reset", "the same"),
    ("os.stat", "fastapi/routing.py", "_extract_endpoint_context", "where a route's source is: once for each route"),
    ("os.stat", "access/tokenfile.py", "_stamp", "one look at a local file: a revoked token ends at the next request"),
    ("os.stat", "store/folder.py", "stat_state", "the same"),
    ("sqlite3.Connection.execute", "store/database.py", "_execute", "the change counter; or tokens, after one changed"),
    ("sqlite3.Cursor.fetchone", "store/database.py", "version", "the change counter, in shared memory"),
    (
        "os.read",
        "embedded/zygote_process.py",
        "_start_launcher",
        "until the launcher's program is loaded, after one had died",
    ),
    ("os.write", "embedded/sandbox.py", "in_memory", "into memory (a memfd): no disk is behind it"),
)
"""What blocks by its name and not in fact: the function, who may call it, and why."""


class Watch:
    """Every blocking call that was made in an event loop: what, and who called it."""

    def __init__(self) -> None:
        self.seen: list[str] = []


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """Blocking calls fail in this block, and are noted: whoever catches what they raise does not hide them."""
    watch, original = Watch(), blockbuster.blockbuster.BlockingError

    class Noted(original):  # type: ignore[misc, valid-type]
        def __init__(self, name: str) -> None:
            callers = [frame for frame in traceback.extract_stack()[-9:-2] if frame.filename != __file__]
            places = (f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(callers))
            watch.seen.append(f"{name} in {' < '.join(places)}")
            super().__init__(name)

    detector = BlockBuster()
    for name, file, function, _ in HARMLESS:
        detector.functions[name].can_block_in(file, function)
    blockbuster.blockbuster.BlockingError = Noted  # type: ignore[misc]
    detector.activate()
    try:
        yield watch
    finally:
        detector.deactivate()
        blockbuster.blockbuster.BlockingError = original  # type: ignore[misc]


LARGE: tuple[dict[str, Any], ...] = (
    {"code": "import sys; print(len(sys.stdin.read()))", "stdin": "x" * 12_000_000},
    {"language": "bash", "code": "exit 0", "stdin": "y" * 12_000_000},
    {"code": f"text = {'z' * 1_000_000!r}; print(len(text))"},
    {
        "code": "import os; print(sum(os.path.getsize(name) for name in os.listdir() if name.startswith('f')))",
        "files": [
            {"path": f"f{n}", "content": base64.b64encode(bytes([n]) * 40_000).decode(), "encoding": "base64"}
            for n in range(200)
        ],
    },
    {"code": "for n in range(300): open(f'out{n}', 'wb').write(bytes([n % 256]) * 5000)"},
    {"code": "open('large', 'wb').write(bytes(30_000_000))"},
    {"code": "import sys; sys.stdout.write('x' * 900_000); sys.stderr.write('y' * 100_000)"},
)


async def test_no_execution_of_any_kind_blocks_the_event_loop(level: str, clean_host: Path):
    async with site(level, clean_host) as here:
        with watched() as watch:
            for number, kind in enumerate(KINDS):
                kind.judge(await here.outcome(**kind.request(number)), number)
            for fields in LARGE:
                assert (await here.outcome(**fields))["status"] == "succeeded"
            await here.ready()
        assert watch.seen == []


async def test_no_refusal_and_no_departure_blocks_the_event_loop(level: str, clean_host: Path):
    async with site(level, clean_host) as here:
        with watched() as watch:
            refused = [
                await here.execute(code=""),
                await here.execute(code="1", language="klingon"),
                await here.execute(code="1", files=[{"path": "../x", "content": ""}]),
                await here.execute(code="1", stdin="x" * 17_000_000),
                await here.client.post("/execute", content=b"{", headers=BEARER | {"Content-Type": "application/json"}),
                await here.client.post("/execute", json={"code": "1"}),
            ]
            assert [answer.status_code for answer in refused] == [400, 400, 422, 413, 400, 401]
            for path in ("/health", "/livez", "/readyz", "/languages", "/metrics", "/docs", "/openapi.json", "/"):
                assert (await here.client.get(path, headers=BEARER)).status_code == 200
            await leave_while_it_runs(here)
            await here.ready()
        assert watch.seen == []


async def test_a_stored_token_a_repeated_key_and_a_rate_limit_block_nothing(level: str, clean_host: Path):
    secret, _ = TokenStore(clean_host).create("caller")
    headers = {"Authorization": f"Bearer {secret}"}
    async with site(level, clean_host, api_token=None, rate_limit="4/hour") as here:
        with watched() as watch:
            body = {"code": "print(input())", "stdin": "heard"}
            first = await here.client.post("/execute", json=body, headers=headers | {"Idempotency-Key": "one"})
            again = await here.client.post("/execute", json=body, headers=headers | {"Idempotency-Key": "one"})
            await asyncio.to_thread(TokenStore(clean_host).revoke, "caller")
            late = await here.client.post("/execute", json=body, headers=headers)
        assert watch.seen == []
        assert (first.json()["stdout"], again.content, late.status_code) == ("heard\n", first.content, 401)


async def test_a_zygote_that_is_started_again_blocks_nothing(level: str, clean_host: Path):
    others = {zygote.pid for zygote in family_of(os.getpid()).zygotes}  # other tests keep servers in this process
    async with site(level, clean_host) as here:
        (zygote,) = [zygote for zygote in family_of(os.getpid()).zygotes if zygote.pid not in others]
        with watched() as watch:
            os.kill(zygote.pid, signal.SIGKILL)
            await asyncio.to_thread(until, lambda: not alive(zygote.pid))
            assert (await here.outcome(code="print(42)"))["stdout"] == "42\n"
            await here.ready()
        assert watch.seen == []


async def leave_while_it_runs(here: Site) -> None:
    """Close the connection while the program runs."""
    leaving = asyncio.ensure_future(here.execute(code="while True: pass"))
    await becomes(lambda: here.running(1))
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await becomes(lambda: here.running(0))
