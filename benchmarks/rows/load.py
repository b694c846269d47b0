"""Latency, throughput and the server's memory with a growing number of clients."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import PRINTS_ONE, Bench
from benchmarks.closed_loop import Tally, run_clients
from benchmarks.processes import Family, NotReadable, memory_of
from benchmarks.rows.latency import PYTHON_CODE
from benchmarks.server import Gate, Server
from benchmarks.table import Row, Skipped, Target, as_mebibytes, milliseconds, render_columns

CLIENT_COUNTS = (1, 2, 5, 10, 20, 50)


def tail(bench: Bench) -> Iterator[Row | Skipped]:
    """The ratio of p99 to the median, at concurrency 2."""
    samples = run_clients_on(bench.server, bench.full, 2, bench.effort.load_window * 2).samples
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
class Footprint:
    """Resident bytes of the processes that stay; None where the kernel does not show them."""

    server: int | None
    zygotes: int | None

    def as_json(self) -> dict[str, int | None]:
        """For JSON."""
        return {"server_rss_bytes": self.server, "zygotes_rss_bytes": self.zygotes}

    def cells(self) -> tuple[str, str]:
        """For the table, in MiB."""
        return _mebibytes(self.server), _mebibytes(self.zygotes)


@dataclass(frozen=True, slots=True)
class LoadLine:
    """One line of the load table; ``after`` is the memory once its clients are gone and the pools are full again."""

    tally: Tally
    after: Footprint

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
            **self.after.as_json(),
        }

    def cells(self) -> tuple[str, ...]:
        """For the table."""
        tally, samples = self.tally, self.tally.samples
        times = (f"{value * 1000:.1f}" for value in (samples.p50, samples.p90, samples.p99))
        counts = str(tally.errors), str(tally.busy)
        return str(tally.clients), f"{tally.rate:.0f}", *times, *counts, *self.after.cells()


def measure_load(bench: Bench) -> list[LoadLine]:
    """Python ``print(1)`` with a growing number of clients."""
    return [measure_line(bench.server, bench.full, clients, bench.effort.load_window) for clients in CLIENT_COUNTS]


def measure_line(server: Server, full: Gate, clients: int, seconds: float) -> LoadLine:
    """Measure one line: start when every pool is full, read the memory when they are full again."""
    tally = run_clients_on(server, full, clients, seconds)
    full()
    return LoadLine(tally, footprint(server.family()))


def run_clients_on(server: Server, full: Gate, clients: int, seconds: float) -> Tally:
    """``clients`` that run Python ``print(1)`` for ``seconds``."""
    full()
    request = server.address.execute("python", PYTHON_CODE)
    return run_clients(server.address, request, PRINTS_ONE, clients=clients, seconds=seconds)


def footprint(family: Family) -> Footprint:
    """The memory of the server, and of its zygotes together."""
    try:
        server = memory_of(family.server).rss
    except NotReadable:
        return Footprint(None, None)
    try:
        return Footprint(server, sum(memory_of(process).rss for process in family.zygotes))
    except NotReadable:  # in their own user namespace they belong to another uid
        return Footprint(server, None)


def render_load(lines: list[LoadLine], before: Footprint | None = None) -> str:
    """The load table; its first line is the memory ``before``."""
    titles = ("clients", "per second", "p50 ms", "p90 ms", "p99 ms", "errors", "503", "server MiB", "zygotes MiB")
    idle = [("0", *[""] * 6, *before.cells())] if before else []
    return "\n".join(render_columns(titles, [*idle, *(line.cells() for line in lines)]))


def _mebibytes(size: int | None) -> str:
    return "" if size is None else f"{as_mebibytes(size):.1f}"
