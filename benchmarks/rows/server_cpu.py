"""The CPU time of the server process alone, for an execution and for the least that it can be asked."""

from collections.abc import Iterator

from benchmarks.bench import PRINTS_ONE, Bench
from benchmarks.rows.latency import PYTHON_CODE
from benchmarks.samples import median
from benchmarks.table import Row, Skipped, Target, milliseconds

_ROUNDS = 8
"""Each of as many requests of either kind as the effort has rounds for a latency."""


def execution(bench: Bench) -> Iterator[Row | Skipped]:
    """Both kinds in turn; each round's time includes arming the next sandbox, until every pool is full again."""
    address = bench.server.address
    execute, live = address.execute("python", PYTHON_CODE), address.get("/livez")
    ours, other = [], []
    for _ in range(_ROUNDS):
        ours.append(_seconds_each(bench, execute, PRINTS_ONE))
        other.append(_seconds_each(bench, live, b"alive"))
    yield Row(
        "server-cpu",
        "CPU time of the server for print(1) : for GET /livez",
        median(ours) / median(other),
        milliseconds(median(ours)),
        milliseconds(median(other)),
        target=Target(3),
        figures={"ours_seconds": ours, "other_seconds": other},
    )


def _seconds_each(bench: Bench, request: bytes, wanted: bytes) -> float:
    bench.full()
    before = bench.server.family().server.own_cpu_seconds
    for _ in range(bench.effort.rounds):
        bench.connection.timed(request, wanted)
    return (bench.server.family().server.own_cpu_seconds - before) / bench.effort.rounds
