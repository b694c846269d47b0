"""What every row needs: the server under test, the interpreters to compare with, and the durations."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare import Bare, Lanes
from benchmarks.server import Gate, Server
from benchmarks.wire import BadResponse, Connection
from codex_server.interpreters import Interpreter

PRINTS_ONE = b'"output":"1\\n"'
"""In the response of a program that printed 1."""


@dataclass(frozen=True, slots=True)
class Effort:
    """The durations. ``seconds`` limits a latency row, ``window`` a rate's window; ``windows`` of each."""

    rounds: int = 200
    seconds: float = 9.0
    window: float = 2.0
    windows: int = 3
    load_window: float = 2.5
    starts: int = 3
    open_streams: int = 500


DEFAULT = Effort()
QUICK = Effort(rounds=60, seconds=2.0, window=0.7, windows=2, load_window=0.5, starts=1, open_streams=50)


@dataclass(frozen=True, slots=True)
class Bench:
    """One run's means. ``full`` waits until every pool is full."""

    server: Server
    connection: Connection
    full: Gate
    lanes: Lanes
    python: Interpreter
    plain_python: Path
    """The same interpreter without packages: the one for bare starts."""
    node: Interpreter | None
    effort: Effort
    equipped_python: Path | None
    """The same interpreter with the guests' data packages, where they are installed."""
    say: Callable[[str], None]

    def execution(self, language: str, code: str, wanted: bytes = PRINTS_ONE) -> Callable[[], float]:
        """A source of samples: one execution over HTTP."""
        request = self.server.address.execute(language, code)
        return lambda: self.connection.timed(request, wanted)

    def bare_python(self, code: str, *flags: str) -> Bare:
        """A start of the interpreter that guests run in, without its packages; it prints 1."""
        return Bare((str(self.plain_python), *flags, "-c", code), b"1\n")

    def try_execution(self, language: str, code: str) -> dict[str, object]:
        """One execution's response, whatever its outcome. Raises ``BadResponse`` when it has none."""
        response = self.connection.exchange(self.server.address.execute(language, code))
        if response.status != 200:
            raise BadResponse(f"HTTP {response.status}: {response.body[:500]!r}")
        outcome: dict[str, object] = json.loads(response.body)
        return outcome
