"""From ``codex-server serve`` to the first response of a program."""

import time
from collections.abc import Iterator

from benchmarks.bench import PRINTS_ONE, Bench
from benchmarks.rows.latency import PYTHON_CODE
from benchmarks.samples import median
from benchmarks.server import running_server
from benchmarks.table import Row, Skipped
from benchmarks.wire import Connection


def start(bench: Bench) -> Iterator[Row | Skipped]:
    """Servers of their own, one after the other."""
    seconds = [_first_response() for _ in range(bench.effort.starts)]
    yield Row(
        "start",
        "From the start of `serve` to the first response to print(1)",
        median(seconds),
        f"{median(seconds):.2f} s",
        unit="s",
        figures={"seconds": [round(value, 3) for value in seconds]},
    )


def _first_response() -> float:
    with running_server() as server, Connection(server.address) as connection:
        connection.timed(server.address.execute("python", PYTHON_CODE), PRINTS_ONE)
        return time.perf_counter() - server.began
