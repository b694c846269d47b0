"""The limits of a session: those of each interpreter, held by the kernel, and those of a cell, which init looks at."""

import resource

from ..protocol.launch import SlotSetup
from ..protocol.session import CellOrder, CellStopReason, InterpreterOrder
from .boundary import Boundary
from .bounds import Usage, largest_file, memory_passed
from .process_tree import ProcessTree
from .procfs import cpu_seconds, peak_resident_bytes, resident_bytes
from .session_workspace import FilesRefused

INIT_BYTES = 16 * 2**20
"""Memory that init leaves free when it writes for a guest. Where files have taken all of it no process is left that the
kernel could kill for more, but init, and with it the session. Init itself takes some 8 MiB of its own in a long life,
and the kernel counts pages that each processor keeps, and tables that are in no account of files or processes."""


class SessionBounds:
    """``setup`` is the backend's. ``on_disk``: the workspace is a folder of the operator's, on a disk."""

    def __init__(
        self, setup: SlotSetup, boundary: Boundary, process_tree: ProcessTree, *, on_disk: bool = False
    ) -> None:
        self._setup = setup
        self._boundary = boundary
        self._process_tree = process_tree
        self._on_disk = on_disk
        self._memory_bytes = 0  # the session's, which every interpreter has; a cell's own is never more

    def limit(self, pid: int, order: InterpreterOrder) -> None:
        """Set the limits of an interpreter, for its life: a lowered one cannot be raised again for the next cell."""
        self._memory_bytes = order.memory_bytes
        # INVARIANT: no size of the workspace bounds what is written to a disk, so this limit holds there in any case.
        largest = largest_file(self._setup, order.file_bytes, order.memory_bytes)
        rows = {
            resource.RLIMIT_FSIZE: (min(largest, order.file_bytes) if self._on_disk else largest,) * 2,
            resource.RLIMIT_NPROC: (_no_more_than_own(order.processes + self._setup.process_margin),) * 2,
        }
        if not self._setup.cgroups and order.data_limit:
            rows[resource.RLIMIT_DATA] = (order.memory_bytes,) * 2
        self._boundary.limit(pid, rows)

    def check_room(self, order: CellOrder, in_files: int, in_input: int) -> None:
        """Raises ``FilesRefused`` where a cell's files or its input do not fit into the memory that is left."""
        in_memory = in_input + (0 if self._on_disk else in_files)
        if (left := self.room(order, in_memory)) < in_memory:
            what = f"{in_memory} bytes are more than the {left} that are left of the session's memory"
            raise FilesRefused(f"not enough memory: {what}; remove files first", "files" if in_files else "stdin")

    def room(self, order: CellOrder, wanted: int) -> int:
        """How many of ``wanted`` bytes init may keep in the slot's memory, beside files and processes.

        INVARIANT: init never writes for a guest what could have the kernel kill init itself.
        """
        files = self._boundary.file_bytes()
        if files is None or wanted == 0:
            return wanted
        left = (self._memory_bytes or order.memory_bytes) - INIT_BYTES - files
        pids = list(self._boundary.members())
        if left - sum(resident_bytes(pid, shared_fairly=False) for pid in pids) >= wanted:
            return wanted
        return max(0, min(wanted, left - sum(resident_bytes(pid, shared_fairly=True) for pid in pids)))

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
