"""The limits of an execution: those that the kernel holds for the worker, and those that init looks at itself."""

import os
import resource
import signal
from dataclasses import dataclass

from ..protocol.launch import SlotSetup
from ..protocol.run import RunOrder, StopReason
from .boundary import Boundary
from .process_tree import ProcessTree
from .procfs import cpu_seconds, resident_bytes, scheduled_seconds

_BEYOND_ALL_FILES = 2**62
"""A limit that binds nothing, and yet is one: nobody can take it away."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an execution used, and how many of its processes the kernel killed for memory."""

    cpu_seconds: float
    peak_memory_bytes: int
    oom_kills: int = 0


class Bounds:
    """The limits of one worker's execution: ``setup`` is the backend's, ``begin`` takes the execution's."""

    _order: RunOrder

    def __init__(self, setup: SlotSetup, boundary: Boundary, process_tree: ProcessTree) -> None:
        self._setup = setup
        self._boundary = boundary
        self._process_tree = process_tree
        self._cpu_before = 0.0  # what arming took is not the program's

    def begin(self, order: RunOrder) -> None:
        """Set the worker's resource limits, and count from now on."""
        self._order = order
        # A second above the limit, so that init's own watch, which counts all processes together, comes first.
        seconds = -int(-order.cpu_seconds // 1) + 1
        rows = {
            resource.RLIMIT_CPU: (seconds, seconds + 1),
            resource.RLIMIT_FSIZE: (largest_file(self._setup, order.file_bytes, order.memory_bytes),) * 2,
            resource.RLIMIT_NPROC: (order.processes + self._setup.process_margin,) * 2,
        }
        if not self._setup.cgroups and order.data_limit:
            rows[resource.RLIMIT_DATA] = (order.memory_bytes,) * 2
        self._boundary.limit(self._process_tree.worker, rows)
        self._cpu_before = scheduled_seconds(self._process_tree.worker)

    def passed(self) -> StopReason | None:
        """The limit that the processes of the slot have passed together, or None."""
        pids = list(self._boundary.members())
        if self._used_seconds() + sum(map(cpu_seconds, pids)) > self._order.cpu_seconds:
            return "cpu_time"
        if not self._setup.cgroups and memory_passed(self._boundary, pids, self._order.memory_bytes):
            return "memory"
        if self._boundary.uncharged_bytes() > self._order.memory_bytes:
            return "memory"
        return None

    def ended_for_cpu(self) -> bool:
        """Whether the worker died by RLIMIT_CPU; a program can also send itself that signal."""
        status = self._process_tree.status or 0
        by_limit = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        return by_limit and self._used_seconds() >= self._order.cpu_seconds

    def usage(self) -> Usage:
        """What was used since ``begin``; before it, since the worker was started."""
        return Usage(max(0.0, self._used_seconds()), self._process_tree.peak_memory_bytes)

    def _used_seconds(self) -> float:
        """What those who ended used since ``begin``."""
        return self._process_tree.cpu_seconds - self._cpu_before


def largest_file(setup: SlotSetup, file_bytes: int, memory_bytes: int) -> int:
    """RLIMIT_FSIZE for a worker. To the kernel a memfd and shared memory are files too: it would bind what is memory.

    So it binds only where the limit is tighter than the workspace, whose own size bounds its files, as the memory
    limit does memory. INVARIANT: where no cgroup counts memory, nothing that is a file to the kernel grows beyond
    the memory limit.
    """
    largest = file_bytes
    if largest >= setup.workspace_bytes:
        largest = _BEYOND_ALL_FILES if setup.cgroups else max(largest, memory_bytes)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    return largest if hard == resource.RLIM_INFINITY else min(largest, hard)


def memory_passed(boundary: Boundary, pids: list[int], limit: int) -> bool:
    """Whether ``pids`` and the files of their slot take more memory than ``limit`` together."""
    stored = boundary.stored_bytes()
    if stored + sum(resident_bytes(pid, shared_fairly=False) for pid in pids) <= limit:
        return False
    return stored + sum(resident_bytes(pid, shared_fairly=True) for pid in pids) > limit
