"""Sessions: opening one, its first cell, a cell in one that lives, a file read; beside a plain execution."""

import json
import time
from collections.abc import Iterator

from benchmarks.bench import PRINTS_ONE, Bench
from benchmarks.rows.latency import PYTHON_CODE, compared
from benchmarks.samples import Samples, Source, interleave
from benchmarks.table import Row, Skipped, Target
from benchmarks.wire import BadResponse

_MIB = 2**20
_IN_A_ROW = 10
_SUCCEEDED = b'"succeeded"'


def opening(bench: Bench) -> Iterator[Row | Skipped]:
    """A session that is opened and, untimed, closed; beside ``print(1)`` by ``/execute``."""
    sources = {"open": lambda: _opening(bench), "execution": bench.execution("python", PYTHON_CODE)}
    samples = _taken(bench, sources)
    case = "Opening a session : Python print(1) by POST /execute"
    yield compared(("session-open", case), samples, ("open", "execution"), Target(2))


def _opening(bench: Bench) -> float:
    began = time.perf_counter()
    path = _opened(bench)
    took = time.perf_counter() - began
    _close(bench, path)
    return took


def cell(bench: Bench) -> Iterator[Row | Skipped]:
    """``x += 1`` in one session, again and again; beside ``print(1)`` in a new sandbox."""
    path = _opened(bench)
    bench.connection.timed(_request(bench, path, "x = 0"), _SUCCEEDED)
    again = _request(bench, path, "x += 1")
    one = {
        "cell": lambda: bench.connection.timed(again, _SUCCEEDED),
        "execution": bench.execution("python", PYTHON_CODE),
    }
    several = {name: _in_a_row(source) for name, source in one.items()}
    for sources, how, target in ((several, f"{_IN_A_ROW} in a row", Target(0.5)), (one, "each after a pause", None)):
        samples = _taken(bench, sources)
        case = f"`x += 1` in a session : Python print(1) by POST /execute, {how}"
        yield compared(("session-cell", case), samples, ("cell", "execution"), target)
    _close(bench, path)


def _in_a_row(source: Source) -> Source:
    """One of several, as a client asks that has more to do."""
    return lambda: sum(source() for _ in range(_IN_A_ROW)) / _IN_A_ROW


def first_cell(bench: Bench) -> Iterator[Row | Skipped]:
    """The first cell of a session, its second, and the first of its shell; beside ``print(1)`` by ``/execute``."""
    sources = {
        "cold": lambda: _first(bench, 0, "python", PYTHON_CODE),
        "second": lambda: _first(bench, 1, "python", PYTHON_CODE),
        "bash": lambda: _first(bench, 0, "bash", "echo 1"),
        "execution": bench.execution("python", PYTHON_CODE),
    }
    samples = _taken(bench, sources)
    cases = {"cold": "First cell of a session", "second": "  its second cell", "bash": "  its first cell of Bash"}
    for side, case in cases.items():
        name = ("session-first", f"{case} : Python print(1) by POST /execute")
        yield compared(name, samples, (side, "execution"), None)


def _first(bench: Bench, before: int, language: str, code: str) -> float:
    path = _opened(bench)
    request = _request(bench, path, code, language)
    for _ in range(before):
        bench.connection.timed(request, PRINTS_ONE)
    took = bench.connection.timed(request, PRINTS_ONE)
    _close(bench, path)
    return took


def file_read(bench: Bench) -> Iterator[Row | Skipped]:
    """``GET`` of a file of 1 MB that lies in a session; beside ``print(1)`` by ``/execute``."""
    path = _opened(bench)
    content = f"open('large', 'wb').write(b'x' * {_MIB})"
    bench.connection.timed(_request(bench, path, content), _SUCCEEDED)
    read = bench.server.address.get(f"{path}/files/large", authorized=True)
    sources = {
        "read": lambda: bench.connection.timed(read, b"x" * _MIB),
        "execution": bench.execution("python", PYTHON_CODE),
    }
    samples = _taken(bench, sources)
    case = "A file of 1 MiB read from a session : Python print(1) by POST /execute"
    yield compared(("session-file", case), samples, ("read", "execution"), None)
    _close(bench, path)


def _taken(bench: Bench, sources: dict[str, Source]) -> dict[str, Samples]:
    return interleave(sources, rounds=bench.effort.rounds, seconds=bench.effort.seconds, settle=bench.full)


def _opened(bench: Bench) -> str:
    """The path of a new session."""
    response = bench.connection.exchange(bench.server.address.post("/sessions"))
    if response.status != 201:
        raise BadResponse(f"HTTP {response.status}: {response.body[:500]!r}")
    return f"/sessions/{json.loads(response.body)['session_id']}"


def _close(bench: Bench, path: str) -> None:
    response = bench.connection.exchange(bench.server.address.delete(path))
    if response.status != 204:
        raise BadResponse(f"HTTP {response.status}: {response.body[:500]!r}")


def _request(bench: Bench, path: str, code: str, language: str = "python") -> bytes:
    return bench.server.address.execute(language, code, path=f"{path}/execute")
