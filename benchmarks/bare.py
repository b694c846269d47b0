"""Bare starts of an interpreter: what an execution is measured against."""

import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
_CHUNK = 2**16


class BareStartFailed(Exception):
    """The program did not print what it should; a figure would mean nothing."""


@dataclass(frozen=True, slots=True)
class Bare:
    """A command and what it must print. ``env`` is added to a small environment of our own, not to the caller's."""

    argv: tuple[str, ...]
    prints: bytes
    env: dict[str, str] = field(default_factory=dict)

    def start(self) -> float:
        """Start it, read all that it prints, wait for its end; seconds. Raises ``BareStartFailed``."""
        began = time.perf_counter()
        reader, writer = os.pipe()
        try:
            pid = self._spawn(writer)
        finally:
            os.close(writer)
        printed = _read_all(reader)
        _, status = os.waitpid(pid, 0)
        took = time.perf_counter() - began
        if status != 0 or printed != self.prints:
            raise BareStartFailed(f"{' '.join(self.argv)}: wait status {status}, printed {printed[:200]!r}")
        return took

    def _spawn(self, writer: int) -> int:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writer, 1),
        ]
        return os.posix_spawn(self.argv[0], self.argv, ENVIRONMENT | self.env, file_actions=actions)


def make_plain_python(interpreter: Path, folder: Path) -> Path:
    """That interpreter with an empty set of packages: a virtual environment in ``folder``, made by hand.

    A ``.pth`` file among a Python's packages runs at each of its starts, and may cost more than all the rest.
    """
    program = folder / "bin" / "python3"
    program.parent.mkdir(parents=True)
    program.symlink_to(interpreter)
    (folder / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\ninclude-system-site-packages = false\n")
    return program


def _read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, _CHUNK):
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Starts:
    """How many starts a window saw, and the CPU time that they took."""

    count: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Starts a second."""
        return self.count / self.seconds


class Lanes:
    """Processes that start bare interpreters side by side. Use it as a context manager.

    Processes, not threads: ``posix_spawn`` holds the interpreter's lock, and would make the bare starts look slower.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._pool = ProcessPoolExecutor(number, mp_context=get_context("spawn"))

    def __enter__(self) -> "Lanes":
        list(self._pool.map(_wait_a_moment, [0.05] * self.number))  # so that each lane's process stands
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def run(self, bare: Bare, seconds: float) -> Starts:
        """Start ``bare`` again and again for ``seconds``, one at a time in each lane."""
        lanes = list(self._pool.map(_run_lane, [bare] * self.number, [seconds] * self.number))
        return Starts(sum(lane.count for lane in lanes), seconds, sum(lane.cpu_seconds for lane in lanes))


def _run_lane(bare: Bare, seconds: float) -> Starts:
    before, count = _children_cpu(), 0
    deadline = time.perf_counter() + seconds
    while True:
        bare.start()
        if time.perf_counter() > deadline:
            return Starts(count, seconds, (_children_cpu() - before) * count / (count + 1))
        count += 1


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _wait_a_moment(seconds: float) -> None:
    time.sleep(seconds)
