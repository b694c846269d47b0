"""What ``codex-server run`` runs, where, and what became of it."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from codex_server.model import Stream

EXIT_NOT_RUN = 125
"""As `docker run` has it: the program was not run, or nobody knows what became of it."""
EXIT_STOPPED = 128 + signal.SIGKILL
EXIT_TERMINATED = 128 + signal.SIGTERM
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE

Sink = Callable[[Stream, bytes], bool]
"""Takes each piece of output as it comes; False ends the program, for nobody reads on."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program with its input. ``timeout`` in wall seconds; None: as long as the place gives by itself."""

    code: str
    language: str
    args: tuple[str, ...] = ()
    stdin: bytes = b""
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The exit code of the command, why the program did not end by itself, if so, and what became of its files.

    ``result``: the value of its last expression as text, of a program in a session.
    """

    exit_code: int
    reason: str | None = None
    result: str | None = None
    files: tuple[str, ...] = ()


class Place(Protocol):
    """Where a program runs: a sandbox of this machine, or a server."""

    def run(self, program: Program, output: Sink) -> Ended:
        """Run it to its end. Raises a ``CodexError`` that says why it was refused."""
