"""What each optimization of the agents brings: the shipped agents beside a copy in which one of them is off."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import PRINTS_ONE, Bench
from benchmarks.rows.latency import JAVASCRIPT_CODE, PYTHON_CODE, compared
from benchmarks.samples import interleave
from benchmarks.server import Gate, pool_sizes, running_server
from benchmarks.table import Row, Skipped, Target
from benchmarks.wire import Connection

ROOT = Path(__file__).parents[2]
WORTH_KEEPING = Target(0.97)
"""An optimization that brings less than 3 % of the latency is removed."""


@dataclass(frozen=True, slots=True)
class Optimization:
    """One entry of ``OPTIMIZATIONS`` in a file of an agent, and a program that shows its gain."""

    name: str
    file: str
    language: str
    code: str

    def switch_off(self, tree: Path) -> None:
        """Take the entry out of the agent in ``tree``. Raises ``ValueError`` where it is not there exactly once."""
        file = tree / self.file
        lines = file.read_text("utf-8").splitlines(keepends=True)
        places = [number for number, line in enumerate(lines) if "OPTIMIZATIONS = " in line and self.name in line]
        if len(places) != 1:
            raise ValueError(f"{self.file}: {self.name} is in {len(places)} lines with OPTIMIZATIONS, so it stays on")
        lines[places[0]] = lines[places[0]].replace(self.name, "")
        file.write_text("".join(lines), "utf-8")


OPTIMIZATIONS = (
    Optimization("dry-run", "runners/javascript/agent.cjs", "javascript", JAVASCRIPT_CODE),
    Optimization("quick-exit", "runners/javascript/agent.cjs", "javascript", JAVASCRIPT_CODE),
    Optimization("own-finalization", "runners/python/finalization.py", "python", PYTHON_CODE),
)


def optimizations(bench: Bench) -> Iterator[Row | Skipped]:
    """A row for each: the latency with it, and without it."""
    for optimization in OPTIMIZATIONS:
        case = f"{optimization.code} over HTTP, {optimization.name} on : off"
        if optimization.language == "javascript" and bench.node is None:
            yield Skipped("optimizations", case, "there is no Node.js on this machine")
            continue
        with _server_without(optimization) as connection:
            yield _measure(bench, optimization, case, connection)


def _measure(bench: Bench, optimization: Optimization, case: str, connection: Connection) -> Row:
    full = Gate(connection, pool_sizes())
    request = connection.address.execute(optimization.language, optimization.code)
    sources = {
        "on": bench.execution(optimization.language, optimization.code),
        "off": lambda: connection.timed(request, PRINTS_ONE),
    }

    def settle() -> None:
        bench.full()
        full()

    samples = interleave(sources, rounds=bench.effort.rounds, seconds=2 * bench.effort.seconds, settle=settle)
    return compared(("optimizations", case), samples, ("on", "off"), WORTH_KEEPING)


@contextmanager
def _server_without(optimization: Optimization) -> Iterator[Connection]:
    with (
        _tree_without(optimization) as tree,
        running_server(PYTHONPATH=str(tree)) as server,
        Connection(server.address) as connection,
    ):
        yield connection


@contextmanager
def _tree_without(optimization: Optimization) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="codex-bench-") as folder:
        tree = Path(folder)
        tree.chmod(0o755)  # guests of another account read the agents in it
        for name in ("codex_server", "runners"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        optimization.switch_off(tree)
        yield tree
