"""The server's processes as the kernel counts them: who is whose child, CPU time, memory."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB_LINE = re.compile(r"^(\w+): +(\d+) kB$", re.MULTILINE)


class NotReadable(Exception):
    """The kernel does not show this process's memory to us."""


@dataclass(frozen=True, slots=True)
class Process:
    """One line of ``/proc/<pid>/stat``. Seconds of CPU time: its own, and that of children it waited for."""

    pid: int
    parent: int
    own_cpu_seconds: float
    children_cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. ``pss``: each shared page divided by its users; ``private``: pages that nobody else has; ``rss``: all."""

    pss: int
    private: int
    rss: int


@dataclass(frozen=True, slots=True)
class Family:
    """The server's processes by what they are; see the drawing in ``ARCHITECTURE.md``."""

    server: Process
    launchers: tuple[Process, ...]
    zygotes: tuple[Process, ...]
    inits: tuple[Process, ...]
    workers: tuple[Process, ...]
    """And whatever they started."""

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the server and of everything below it; those who ended are in their parents' accounts."""
        below = (*self.zygotes, *self.inits, *self.workers)
        settled = (process.own_cpu_seconds + process.children_cpu_seconds for process in below)
        return self.server.own_cpu_seconds + sum(process.own_cpu_seconds for process in self.launchers) + sum(settled)


def parse_stat(text: str) -> Process:
    """A process from its ``stat`` line; the name in it may contain anything."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    user, system, children_user, children_system = map(int, fields[11:15])
    return Process(int(pid), int(fields[1]), (user + system) / _TICKS, (children_user + children_system) / _TICKS)


def parse_memory(text: str) -> Memory:
    """Memory from ``smaps_rollup``."""
    kib = {name: int(size) for name, size in _KIB_LINE.findall(text)}
    return Memory(kib["Pss"] * 1024, (kib["Private_Clean"] + kib["Private_Dirty"]) * 1024, kib["Rss"] * 1024)


def family_in(processes: Iterable[Process], server: int, first: Callable[[Process], bool]) -> Family:
    """The processes below ``server``; ``first`` marks PID 1 of a slot. Raises ``KeyError`` when it is gone."""
    known = {process.pid: process for process in processes}
    children: dict[int, list[Process]] = {}
    for process in known.values():
        children.setdefault(process.parent, []).append(process)

    def below(parents: Iterable[Process]) -> tuple[Process, ...]:
        return tuple(child for parent in parents for child in children.get(parent.pid, []))

    launchers = below([known[server]])
    zygotes = below(launchers)
    members = waiting = below(zygotes)
    inits = tuple(filter(first, members)) or tuple(process for process in members if process.pid in children)
    while waiting := below(waiting):
        members += waiting
    workers = tuple(process for process in members if process not in inits)
    return Family(known[server], launchers, zygotes, inits, workers)


def family_of(server: int) -> Family:
    """The server's processes now."""
    return family_in(_all_processes(), server, _is_first)


def _is_first(process: Process) -> bool:
    """Whether it is PID 1 of its own pid namespace."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    numbers = next((line.split()[1:] for line in text.splitlines() if line.startswith("NSpid:")), [])
    return numbers[-1:] == ["1"]


def _all_processes() -> Iterable[Process]:
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                yield parse_stat(Path(entry.path, "stat").read_text(encoding="latin-1"))
            except (FileNotFoundError, ProcessLookupError):
                continue


def memory_of(process: Process) -> Memory:
    """What it holds now. Raises ``NotReadable``."""
    try:
        return parse_memory(Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii"))
    except OSError as error:
        raise NotReadable(f"/proc/{process.pid}/smaps_rollup: {error.strerror}") from error


def program_of(process: Process) -> str:
    """The name of the program that it runs."""
    return Path(f"/proc/{process.pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
