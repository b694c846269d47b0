"""How many executions a second can be kept up, beside bare starts: windows of one and of the other in turn."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bare import Bare, Starts
from benchmarks.bench import PRINTS_ONE, Bench
from benchmarks.closed_loop import Tally, run_clients
from benchmarks.rows.latency import JAVASCRIPT_CODE, PYTHON_CODE
from benchmarks.samples import median
from benchmarks.table import Row, Skipped, Target, milliseconds, per_second

CLIENTS = 8


@dataclass(frozen=True, slots=True)
class _Race:
    """Windows of both sides, and what the server's processes used in ours."""

    ours: tuple[Tally, ...]
    bare: tuple[Starts, ...]
    cpu_seconds: float

    def row(self, name: str, case: str, target: Target | None) -> Row:
        """Median rates, and CPU time for each execution and each start."""
        ours, bare = median(tally.rate for tally in self.ours), median(starts.rate for starts in self.bare)
        each, other = self._cpu_of_each()
        return Row(
            name,
            case,
            value=ours / bare,
            ours=per_second(ours),
            other=per_second(bare),
            target=target,
            figures={
                "ours_per_second": round(ours, 1),
                "other_per_second": round(bare, 1),
                "errors": sum(tally.errors for tally in self.ours),
                "busy": sum(tally.busy for tally in self.ours),
                "cpu_ms_for_each": {"ours": round(each * 1000, 3), "other": round(other * 1000, 3)},
                "client_cpu_ms_for_each": round(self._client_cpu() * 1000, 3),
            },
        )

    def cpu_row(self, name: str, case: str) -> Row:
        """The same in CPU time, which a busy machine distorts less."""
        each, other = self._cpu_of_each()
        return Row(name, case, value=each / other, ours=milliseconds(each), other=milliseconds(other))

    def _cpu_of_each(self) -> tuple[float, float]:
        answered = sum(len(tally.latencies) for tally in self.ours)
        started = sum(starts.count for starts in self.bare)
        return self.cpu_seconds / answered, sum(starts.cpu_seconds for starts in self.bare) / started

    def _client_cpu(self) -> float:
        return sum(tally.client_cpu_seconds for tally in self.ours) / sum(len(tally.latencies) for tally in self.ours)


def python(bench: Bench) -> Iterator[Row | Skipped]:
    """``print(1)`` by eight clients."""
    race = _race(bench, bench.server.address.execute("python", PYTHON_CODE), bench.bare_python(PYTHON_CODE))
    lanes = bench.lanes.number
    case = f"Python print(1) a second, {CLIENTS} clients : python3 -c, {lanes} at a time"
    yield race.row("python-rate", case, Target(1.5, at_least=True))
    yield race.cpu_row("python-rate", "  in CPU time for each")


def javascript(bench: Bench) -> Iterator[Row | Skipped]:
    """``console.log(1)`` by eight clients."""
    case = f"JavaScript console.log(1) a second, {CLIENTS} clients : node -e, {bench.lanes.number} at a time"
    if bench.node is None:
        yield Skipped("javascript-rate", case, "there is no Node.js on this machine")
        return
    request = bench.server.address.execute("javascript", JAVASCRIPT_CODE)
    race = _race(bench, request, Bare((str(bench.node.path), "-e", JAVASCRIPT_CODE), b"1\n"))
    yield race.row("javascript-rate", case, None)
    yield race.cpu_row("javascript-rate", "  in CPU time for each")


def _race(bench: Bench, request: bytes, bare: Bare) -> _Race:
    tallies, starts, cpu = [], [], 0.0
    for _ in range(bench.effort.windows):
        bench.full()
        before = bench.server.family().cpu_seconds
        tallies.append(
            run_clients(bench.server.address, request, PRINTS_ONE, clients=CLIENTS, seconds=bench.effort.window)
        )
        bench.full()
        cpu += bench.server.family().cpu_seconds - before
        starts.append(bench.lanes.run(bare, bench.effort.window))
    return _Race(tuple(tallies), tuple(starts), cpu)
