"""Executions that are followed: the first byte of a stream, what a stream costs, many open ones, a poll."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.processes import NotReadable, memory_of
from benchmarks.rows.latency import PYTHON_CODE, compared
from benchmarks.samples import interleave
from benchmarks.server import Server, running_server
from benchmarks.stream import Stream
from benchmarks.table import Row, Skipped, Target, milliseconds
from benchmarks.wire import BadResponse, Connection

_STAMP_CODE = "import time; print('stamp', time.monotonic_ns(), flush=True)"
_STAMP = re.compile(rb"stamp (\d+)")
_WAITS_CODE = "import time; print('begun', flush=True); time.sleep(600)"
_FIRST = "First streamed byte after the program printed it : the same by a pipe"
_OPEN = "Open streams"


def first(bench: Bench) -> Iterator[Row | Skipped]:
    """From the program's own clock just before its ``print`` until the client has it; beside a pipe alone."""
    command = (str(bench.plain_python), "-c", _STAMP_CODE)
    sources = {"stream": lambda: _streamed_stamp(bench), "pipe": lambda: _piped_stamp(command)}
    samples = interleave(sources, rounds=bench.effort.rounds, seconds=bench.effort.seconds, settle=bench.full)
    ours, other = samples["stream"], samples["pipe"]
    yield Row(
        "stream-first",
        _FIRST,
        (ours.p50 - other.p50) * 1000,
        milliseconds(ours.p50),
        milliseconds(other.p50),
        unit="ms more",
        target=Target(5),
        figures={"ours": ours.as_milliseconds(), "other": other.as_milliseconds()},
    )


def _streamed_stamp(bench: Bench) -> float:
    with Stream(bench.server.address, _STAMP_CODE) as stream:
        seen, arrived = stream.read_until(b"stamp ")
        stream.read_all()
    return _since_stamp(seen, arrived)


def _piped_stamp(command: tuple[str, ...]) -> float:
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={}) as process:
        assert process.stdout is not None
        seen = process.stdout.readline()
        arrived = time.monotonic_ns()
    return _since_stamp(seen, arrived)


def _since_stamp(seen: bytes, arrived: int) -> float:
    """Seconds. Raises ``BadResponse`` when ``seen`` has no stamp."""
    stamp = _STAMP.search(seen)
    if stamp is None:
        raise BadResponse(f"no stamp in {seen[-500:]!r}")
    return (arrived - int(stamp[1])) / 1e9


def cost(bench: Bench) -> Iterator[Row | Skipped]:
    """A whole stream of ``print(1)`` beside the plain call, both on kept pools; a stream has its own connection."""
    sources = {"stream": lambda: _whole_stream(bench), "plain": bench.execution("python", PYTHON_CODE)}
    samples = interleave(sources, rounds=bench.effort.rounds, seconds=bench.effort.seconds, settle=bench.full)
    case = "Python print(1) as a stream : by POST /execute"
    yield compared(("stream-cost", case), samples, ("stream", "plain"), None)


def _whole_stream(bench: Bench) -> float:
    began = time.perf_counter()
    with Stream(bench.server.address, PYTHON_CODE) as stream:
        stream.read_all()
    return time.perf_counter() - began


def poll(bench: Bench) -> Iterator[Row | Skipped]:
    """``GET /executions/{id}`` of one that has ended, beside ``GET /livez``."""
    address = bench.server.address
    begun = bench.connection.exchange(address.execute("python", PYTHON_CODE, wait_seconds=30))
    if begun.status != 200:
        raise BadResponse(f"HTTP {begun.status}: {begun.body[:500]!r}")
    status = address.get(f"/executions/{json.loads(begun.body)['execution_id']}", authorized=True)
    live = address.get("/livez")
    sources = {
        "poll": lambda: bench.connection.timed(status, b'"succeeded"'),
        "livez": lambda: bench.connection.timed(live, b"alive"),
    }
    samples = interleave(sources, rounds=bench.effort.rounds, seconds=bench.effort.seconds, settle=bench.full)
    yield compared(("poll", "A poll, GET /executions/{id} : GET /livez"), samples, ("poll", "livez"), None)


def open_streams(bench: Bench) -> Iterator[Row | Skipped]:
    """A server of its own with as many places: the server's memory for each stream, its CPU time while all are idle."""
    settings = {
        "CODEX_MAX_CONCURRENCY": str(bench.effort.open_streams),
        "CODEX_MAX_TIMEOUT": "600",
        "CODEX_DEFAULT_TIMEOUT": "600",
    }
    try:
        with running_server(**settings) as server, ExitStack() as stack:
            yield from _measure_open(bench, server, stack)
    except NotReadable as error:
        yield Skipped("open-streams", _OPEN, f"the kernel does not show the server's memory to this user ({error})")


def _measure_open(bench: Bench, server: Server, stack: ExitStack) -> Iterator[Row]:
    count = bench.effort.open_streams
    with Connection(server.address) as connection:
        connection.timed(server.address.execute("python", PYTHON_CODE), b'"output":"1')
    before = memory_of(server.family().server).pss
    for _ in range(count):
        stack.enter_context(Stream(server.address, _WAITS_CODE)).read_until(b"begun")
    family = server.family()
    each = (memory_of(family.server).pss - before) / count
    slots = [memory_of(process).private for process in (*family.inits, *family.workers)]
    idle = _cpu_share(server, bench.effort.window)
    yield Row(
        "open-streams",
        f"{_OPEN}, {count}: memory of the server for each",
        each / 1024,
        f"{each / 1024:.1f} KiB",
        f"sandboxes {sum(slots) / count / 2**20:.1f} MiB each",
        unit="KiB",
    )
    yield Row("open-streams", "  CPU of the server while they are idle", idle * 100, f"{idle:.2%}", unit="% of one CPU")


def _cpu_share(server: Server, seconds: float) -> float:
    """The part of one CPU that the server uses within the next ``seconds``."""
    before, began = server.family().server.own_cpu_seconds, time.monotonic()
    time.sleep(seconds)
    return (server.family().server.own_cpu_seconds - before) / (time.monotonic() - began)
