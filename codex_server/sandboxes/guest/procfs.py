"""What ``/proc`` shows of a process, living or just gone: its children, its CPU time, its memory."""

import os
import resource
import signal

_PAGE = resource.getpagesize()
_TICKS = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The pids of all children of a process, of each of its threads; none when it is gone."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def parent(pid: int) -> int:
    """The pid of a process's parent; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def process_of(thread: int) -> tuple[int, str]:
    """The process of a thread: its number, and when it was started. Raises ``FileNotFoundError`` when it is gone."""
    with open(f"/proc/{thread}/status", encoding="utf-8", errors="replace") as file:
        pid = next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
    with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
        return pid, file.read().rpartition(")")[2].split()[19]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of its children that it has waited for; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


def scheduled_seconds(pid: int) -> float:
    """CPU time of one living process, to the nanosecond; 0 where the kernel keeps no such account."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def peak_resident_bytes(pid: int) -> int:
    """The most memory that a living process had at once; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(b"VmHWM:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def resident_bytes(pid: int, *, shared_fairly: bool) -> int:
    """Memory of a process: all resident pages (cheap), or ``shared_fairly``: each page divided by its users (dear)."""
    try:
        if not shared_fairly:
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * _PAGE
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:")), 0)
    except PermissionError:  # it made itself undumpable, which must not hide it
        return resident_bytes(pid, shared_fairly=False) if shared_fairly else 0
    except (FileNotFoundError, ProcessLookupError):
        return 0


def states(pid: int) -> set[str]:
    """The state of each thread of a process, a letter as in ``/proc/[pid]/stat``; empty when it is gone."""
    found = set()
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/stat", encoding="latin-1") as file:
                found.add(file.read().rpartition(") ")[2][:1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def is_to_stop(pid: int) -> bool:
    """Whether a process stands still because of a signal, or is about to: the signal is on its way."""
    pending = 0
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"State:"):
                    if line.split()[1] == b"T":
                        return True
                elif line.startswith((b"SigPnd:", b"ShdPnd:")):
                    pending |= int(line.split()[1], 16)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return bool(pending >> (signal.SIGSTOP - 1) & 1)
