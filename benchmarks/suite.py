"""All rows by name, and a run of the selected ones."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import packages
from benchmarks.bare import Lanes, make_plain_python
from benchmarks.bench import Bench, Effort
from benchmarks.machine import Machine, keep_to_processors, load_average, read_machine
from benchmarks.rows import docker, latency, load, memory, optimizations, rate, server_cpu, session, start, stream
from benchmarks.server import Gate, pool_sizes, running_server
from benchmarks.table import Row, Skipped
from benchmarks.wire import Connection
from codex_server.interpreters import find_interpreter

Measure = Callable[[Bench], Iterator[Row | Skipped]]
LOAD = "load"
ROWS: Mapping[str, Measure] = {
    "idle-memory": memory.idle,
    "slot-memory": memory.slot,
    "python": latency.python,
    "latency-tail": latency.tail,
    "server-cpu": server_cpu.execution,
    "javascript": latency.javascript,
    "optimizations": optimizations.optimizations,
    "pandas": latency.pandas,
    "docker-run": docker.embedded,
    "docker-backend": docker.latency,
    "docker-rate": docker.rate,
    "docker-ready": docker.ready,
    "python-rate": rate.python,
    "javascript-rate": rate.javascript,
    "stream-first": stream.first,
    "stream-cost": stream.cost,
    "poll": stream.poll,
    "open-streams": stream.open_streams,
    "session-open": session.opening,
    "session-first": session.first_cell,
    "session-cell": session.cell,
    "session-file": session.file_read,
    "tail": load.tail,
    "start": start.start,
}
NAMES = (*ROWS, LOAD)
ON_REQUEST = frozenset(["optimizations"])
"""Measured only when they are named."""
DEFAULT_NAMES = tuple(name for name in NAMES if name not in ON_REQUEST)
PROCESSORS = 2
"""The targets are for two CPUs: on a larger machine the run uses two of them."""


@dataclass(slots=True)
class Report:
    """One run."""

    machine: Machine
    processors: int
    load_before: float
    isolation: str = ""
    load_after: float = 0.0
    rows: list[Row | Skipped] = field(default_factory=list)
    load_table: list[load.LoadLine] = field(default_factory=list)

    @property
    def missed(self) -> list[Row]:
        """The rows whose target was not reached."""
        return [row for row in self.rows if isinstance(row, Row) and row.holds is False]

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "machine": self.machine.as_json(),
            "processors_used": self.processors,
            "isolation": self.isolation,
            "load_average": {"before": self.load_before, "after": self.load_after},
            "rows": [row.as_json() for row in self.rows],
            "load": [line.as_json() for line in self.load_table],
        }

    def title(self) -> str:
        """The lines above the table."""
        machine = self.machine
        commit = f"{machine.commit}{' with changes' if machine.dirty else ''}"
        gib = machine.memory_bytes / 2**30
        return (
            f"Codex Server {machine.version}, commit {commit}, isolation {self.isolation}\n"
            f"{machine.processors} processors ({machine.processor}), {self.processors} used; {gib:.1f} GiB; "
            f"Linux {machine.kernel}; load average {self.load_before:.1f} before, {self.load_after:.1f} after"
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What to measure, and how thoroughly; ``packages`` are installed before, where they are missing."""

    names: tuple[str, ...]
    effort: Effort
    packages: bool = True


def run(wish: Wish, say: Callable[[str], None]) -> Report:
    """Measure; ``say`` receives the current step."""
    report = Report(read_machine(), keep_to_processors(PROCESSORS), load_average())
    with ExitStack() as stack:
        bench = _open(wish, say, stack)
        report.isolation = str(bench.server.facts()["isolation"])
        for name in wish.names:
            say(name)
            if name == LOAD:
                report.load_table = load.measure_load(bench)
            else:
                report.rows += ROWS[name](bench)
    report.load_after = load_average()
    return report


def _open(wish: Wish, say: Callable[[str], None], stack: ExitStack) -> Bench:
    python = find_interpreter("python")
    if python is None or not os.access(python.path, os.X_OK):
        raise SystemExit("benchmarks: the interpreter that guests run in cannot be found; run `make setup`")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="codex-bench-")))
    plain = make_plain_python(python.path, folder / "python")
    if wish.packages:
        packages.install_missing(say)
    environment = packages.python_environment()
    equipped = environment / "bin" / "python3" if environment else None
    lanes = stack.enter_context(Lanes(len(os.sched_getaffinity(0))))
    server = stack.enter_context(running_server())
    connection = stack.enter_context(Connection(server.address))
    full = Gate(connection, pool_sizes())
    full()
    return Bench(server, connection, full, lanes, python, plain, find_interpreter("node"), wish.effort, equipped, say)
