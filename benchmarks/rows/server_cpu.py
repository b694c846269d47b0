"""The CPU time of the server process alone, for an execution and for the least that it can be asked."""

from collections.abc import Callable, Iterator

from benchmarks.bench import PRINTS_ONE, Bench
from benchmarks.rows.latency import PYTHON_CODE
from benchmarks.samples import median
from benchmarks.table import Row, Skipped, Target, milliseconds

_ROUNDS = 8
"""Each of as many requests of either kind as the effort has rounds for a latency."""


def execution(bench: Bench) -> Iterator[Row | Skipped]:
    """Both kinds in turn; each round's time includes arming the next sandbox, until every pool is full again.

    Beside it ``GET /livez`` as an execution finds the server: after other programs had the processors and their caches.
    """
    address = bench.server.address
    execute, live = address.execute("python", PYTHON_CODE), address.get("/livez")
    bare = bench.bare_python(PYTHON_CODE)
    ours, other, cold = [], [], []
    for _ in range(_ROUNDS):
        ours.append(_seconds_each(bench, execute, PRINTS_ONE))
        other.append(_seconds_each(bench, live, b"alive"))
        cold.append(_seconds_each(bench, live, b"alive", between=bare.start))
    yield _row("GET /livez", ours, other, Target(3))
    yield _row("GET /livez after python3 -c has run", ours, cold, None)


def _row(beside: str, ours: list[float], other: list[float], target: Target | None) -> Row:
    return Row(
        "server-cpu",
        f"CPU time of the server for print(1) : for {beside}",
        median(ours) / median(other),
        milliseconds(median(ours)),
        milliseconds(median(other)),
        target=target,
        figures={"ours_seconds": ours, "other_seconds": other},
    )


def _seconds_each(bench: Bench, request: bytes, wanted: bytes, between: Callable[[], object] | None = None) -> float:
    """What one takes, with ``between`` called before each."""
    bench.full()
    before = bench.server.family().server.own_cpu_seconds
    for _ in range(bench.effort.rounds):
        if between is not None:
            between()
        bench.connection.timed(request, wanted)
    return (bench.server.family().server.own_cpu_seconds - before) / bench.effort.rounds
