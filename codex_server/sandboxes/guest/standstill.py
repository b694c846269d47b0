"""Has everyone in a session's slot stand still between its cells, and go on with the next one.

By SIGSTOP, which works at every isolation level. No process can refuse it; but one that runs could continue another
that has stopped already, so it is repeated until all stand still at once.
"""

import signal
import time
from collections.abc import Collection

from .boundary import Boundary
from .procfs import is_to_stop, states

_MOST_SECONDS = 0.25
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.01
_STILL = frozenset("TtZXx")
_IN_THE_KERNEL = frozenset("D")
"""It waits in the kernel, such as for the child of a ``vfork``, and stops before it runs an instruction of its own."""


class Standstill:
    """``boundary`` is the slot's."""

    def __init__(self, boundary: Boundary) -> None:
        self._boundary = boundary
        self._stopped_before: set[int] = set()
        self._still = False

    def stop(self, spared: Collection[int] = ()) -> bool:
        """Have everyone but ``spared`` stand still. False when somebody does not within a quarter of a second.

        INVARIANT: when this returns True no instruction of those processes is executed before ``resume``.
        """
        if not self._still:
            self._stopped_before = {pid for pid in self._boundary.members() if is_to_stop(pid)}
        due, pause = time.monotonic() + _MOST_SECONDS, _FIRST_PAUSE
        while True:
            self._boundary.stop_everyone()
            self._boundary.signal(spared, signal.SIGCONT)
            if self._all_still(spared, _STILL if pause < _LONGEST_PAUSE else _STILL | _IN_THE_KERNEL):
                self._still = True
                return True
            if time.monotonic() > due:
                return False
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def resume(self) -> None:
        """Have everyone go on, but for those that the guest itself had stopped.

        The youngest first: a shell that went on before its jobs would take them for stopped, and one that stops a child
        at once would have it continued after that.
        """
        self._still = False
        members = set(self._boundary.members()) - self._stopped_before
        self._boundary.signal(sorted(members, reverse=True), signal.SIGCONT)
        self._stopped_before = set()

    def resume_one(self, pid: int) -> None:
        """Have one process go on, while everyone else stands still."""
        self._boundary.signal([pid], signal.SIGCONT)

    def stop_one(self, pid: int) -> None:
        """Have it stand still again."""
        self._boundary.signal([pid], signal.SIGSTOP)

    def _all_still(self, spared: Collection[int], still: frozenset[str]) -> bool:
        return all(states(pid) <= still for pid in self._boundary.members() if pid not in spared)
