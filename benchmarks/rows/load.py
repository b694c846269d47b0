"""What becomes of latency and throughput as more clients come."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import PRINTS_ONE, Bench
from benchmarks.crowd import Tally, crowd
from benchmarks.rows.latency import PYTHON_CODE
from benchmarks.table import Row, Skipped, Target, milliseconds, render_columns

CROWDS = (1, 2, 5, 10, 20, 50)


def tail(bench: Bench) -> Iterator[Row | Skipped]:
    """How far the slowest of a hundred is from the median, at concurrency 2."""
    samples = _crowd(bench, 2, bench.effort.load_window * 2).samples
    yield Row(
        "tail",
        "Python print(1), p99 : p50 at concurrency 2",
        value=samples.p99 / samples.p50,
        ours=milliseconds(samples.p99),
        other=milliseconds(samples.p50),
        target=Target(4),
        figures=samples.as_milliseconds(),
    )


@dataclass(frozen=True, slots=True)
class LoadLine:
    """One line of the load table."""

    tally: Tally

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        tally = self.tally
        return {
            "clients": tally.clients,
            "per_second": round(tally.rate, 1),
            **tally.samples.as_milliseconds(),
            "errors": tally.errors,
            "busy": tally.busy,
            "first_error": tally.first_error,
        }

    def cells(self) -> tuple[str, ...]:
        """For the table."""
        tally, samples = self.tally, self.tally.samples
        times = (f"{value * 1000:.1f}" for value in (samples.p50, samples.p90, samples.p99))
        return str(tally.clients), f"{tally.rate:.0f}", *times, str(tally.errors), str(tally.busy)


def measure_load(bench: Bench) -> list[LoadLine]:
    """Python ``print(1)`` by ever more clients."""
    return [LoadLine(_crowd(bench, clients, bench.effort.load_window)) for clients in CROWDS]


def render_load(lines: list[LoadLine]) -> str:
    """The load table."""
    titles = ("clients", "per second", "p50 ms", "p90 ms", "p99 ms", "errors", "503")
    return "\n".join(render_columns(titles, (line.cells() for line in lines)))


def _crowd(bench: Bench, clients: int, seconds: float) -> Tally:
    bench.full()
    request = bench.server.address.execute("python", PYTHON_CODE)
    return crowd(bench.server.address, request, PRINTS_ONE, clients=clients, seconds=seconds)
