"""The limits of a session: those of each interpreter, held by the kernel, and those of a cell, which init looks at."""

import resource

from ..protocol.launch import SlotSetup
from ..protocol.session import CellOrder, CellStopReason, InterpreterOrder
from .boundary import Boundary
from .bounds import Usage, largest_file, memory_passed
from .process_tree import ProcessTree
from .procfs import cpu_seconds, peak_resident_bytes


class SessionBounds:
    """``setup`` is the backend's. ``on_disk``: the workspace is a folder of the operator's, on a disk."""

    def __init__(
        self, setup: SlotSetup, boundary: Boundary, process_tree: ProcessTree, *, on_disk: bool = False
    ) -> None:
        self._setup = setup
        self._boundary = boundary
        self._process_tree = process_tree
        self._on_disk = on_disk

    def limit(self, pid: int, order: InterpreterOrder) -> None:
        """Set the limits of an interpreter, for its life: a lowered one cannot be raised again for the next cell."""
        # INVARIANT: no size of the workspace bounds what is written to a disk, so this limit holds there in any case.
        largest = largest_file(self._setup, order.file_bytes, order.memory_bytes)
        rows = {
            resource.RLIMIT_FSIZE: (min(largest, order.file_bytes) if self._on_disk else largest,) * 2,
            resource.RLIMIT_NPROC: (_no_more_than_own(order.processes + self._setup.process_margin),) * 2,
        }
        if not self._setup.cgroups and order.data_limit:
            rows[resource.RLIMIT_DATA] = (order.memory_bytes,) * 2
        self._boundary.limit(pid, rows)

    def used_seconds(self) -> float:
        """CPU time of everyone who ever ran in the slot."""
        return self._process_tree.cpu_seconds + sum(map(cpu_seconds, self._boundary.members()))

    def oom_kills(self) -> int:
        """How many processes the kernel has killed for memory so far; 0 where the server counts them itself."""
        return 0

    def passed(self, order: CellOrder, seconds_before: float) -> CellStopReason | None:
        """The limit that the slot has passed during a cell, or None."""
        if self.used_seconds() - seconds_before > order.cpu_seconds:
            return "cpu_time"
        if not self._setup.cgroups and memory_passed(
            self._boundary, list(self._boundary.members()), order.memory_bytes
        ):
            return "memory"
        return "memory" if self._boundary.uncharged_bytes() > order.memory_bytes else None

    def usage(self, seconds_before: float) -> Usage:
        """What a cell used; the peak of memory is that of the largest process since it was started."""
        peak = max(map(peak_resident_bytes, self._boundary.members()), default=0)
        return Usage(max(0.0, self.used_seconds() - seconds_before), max(peak, self._process_tree.peak_memory_bytes))


def _no_more_than_own(processes: int) -> int:
    """``processes``, or as many as this process itself may have: nobody here may raise a hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return processes if hard == resource.RLIM_INFINITY else min(processes, hard)
