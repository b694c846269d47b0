"""How a process ends, seen before the kernel has taken its memory apart, which takes 2 ms and nobody need wait for.

INVARIANT: what is told is the kernel's word, never the guest's. A task that exits is marked so, then its code is noted,
then it lets go of its memory, and only then is that unmapped (``do_exit`` in the kernel's ``exit.c``). So where the
mark is set and the memory is gone, the code is final and no instruction of the program can follow.
"""

import os
import time
from collections.abc import Iterator

_EXITING = 0x4  # PF_EXITING in the kernel's sched.h
_FLAGS, _THREADS, _SIZE, _EXIT_CODE = 6, 17, 20, 49  # places in /proc/<pid>/stat after the name, proc_pid_stat(5)
_PAUSES = (0.00005, 0.00005, 0.0001, 0.0001, 0.0002, 0.0004, 0.0008, 0.0016)
"""Seconds between two looks: short at first, for an idle machine, and few, for a busy one."""


def await_last_instruction(pid: int) -> int | None:
    """The wait status of ``pid``, which is about to end; None when it or one of its threads runs on."""
    for pause in _PAUSES:
        status = status_of_leaving(pid)
        if status is not None:
            return status
        time.sleep(pause)
    return status_of_leaving(pid)


def status_of_leaving(pid: int) -> int | None:
    """The wait status of a process that runs nothing any more, dead or not; None while one of its threads may run."""
    try:
        fields = _fields(f"/proc/{pid}/stat")
        if not _is_gone(fields):
            return None
        if int(fields[_THREADS]) > 1 and not all(map(_is_gone, _threads(pid))):
            return None
        return int(fields[_EXIT_CODE]) if _may_look_into(pid) else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def _may_look_into(pid: int) -> bool:
    """INVARIANT: where the kernel hides a process's code from us (it made itself undumpable), it writes 0 in its place.

    Reading ``io`` takes the same permission as the code does, and is refused aloud.
    """
    try:
        _fields(f"/proc/{pid}/io")
    except PermissionError:
        return False
    return True


def _threads(pid: int) -> Iterator[list[bytes]]:
    for thread in os.listdir(f"/proc/{pid}/task"):
        yield _fields(f"/proc/{pid}/task/{thread}/stat")


def _is_gone(fields: list[bytes]) -> bool:
    return bool(int(fields[_FLAGS]) & _EXITING) and fields[_SIZE] == b"0"


def _fields(path: str) -> list[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096).rpartition(b")")[2].split()
    finally:
        os.close(descriptor)
