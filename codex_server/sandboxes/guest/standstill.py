"""Has everyone in a session's slot stand still between its cells, and go on with the next one.

By SIGSTOP, which works at every isolation level. No process can refuse it; but one that runs could continue another
that has stopped already, so it is repeated until all stand still at once. Then only the kernel can continue anybody.
What has it send SIGCONT, and what stands against it:

- a timer (``timer_create``), input (``F_SETSIG``), a parent's end (``PR_SET_PDEATHSIG``) or a child's (``clone``):
  refused by ``seccomp/sessions.py``; message queues, asynchronous input and output, ``io_uring``, ``perf_event_open``
  and ``ptrace``: refused to every guest; a terminal's own requests: not listed in ``seccomp/multiplexers.py``. All
  other timers and limits (``setitimer``, ``alarm``, RLIMIT_CPU) send a signal of their own.
- a process that dies while others stand still, for memory: a process group that has become an orphan, and the leader
  of a session whose terminal has lost its other end, get SIGHUP and SIGCONT. So does that leader when the kernel finds
  the other end in a socket that nobody has open any more. Each of these happens once; who goes on is found by ``look``.

A freezer of cgroups would hold against all of them, but is there at one level of three, and init is in that cgroup too.
"""

import math
import signal
import time
from collections.abc import Collection

from .boundary import Boundary
from .procfs import is_to_stop, parent, states

_MOST_SECONDS = 0.25
_MOST_FROM_ABOVE_SECONDS = 0.1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.01
_FIRST_LOOK, _LONGEST_BETWEEN_LOOKS = 0.1, 10.0
_STILL = frozenset("TtZXx")
_IN_THE_KERNEL = frozenset("D")
"""It waits in the kernel, such as for the child of a ``vfork``, and stops before it runs an instruction of its own."""


class Standstill:
    """``boundary`` is the slot's."""

    def __init__(self, boundary: Boundary) -> None:
        self._boundary = boundary
        self._stopped_before: set[int] = set()
        self._still = False
        self._pause = _FIRST_LOOK
        self._went_on = 0
        self.due = math.inf
        """When to ``look`` next (monotonic)."""

    def stop(self, spared: Collection[int] = (), shells: Collection[int] = ()) -> bool:
        """Have everyone but ``spared`` stand still. False when somebody does not within a quarter of a second.

        ``shells`` stop before their jobs do.

        INVARIANT: when this returns True no instruction of those processes is executed before ``resume``, unless the
        kernel itself continues one: ``look`` and ``keep`` find it.
        """
        if not self._still:
            self._stopped_before = {pid for pid in self._boundary.members() if is_to_stop(pid)}
            self._stop_from_above(shells)
        due, pause = time.monotonic() + _MOST_SECONDS, _FIRST_PAUSE
        while True:
            self._boundary.stop_everyone()
            self._boundary.signal(spared, signal.SIGCONT)
            if self._all_still(spared, _STILL if pause < _LONGEST_PAUSE else _STILL | _IN_THE_KERNEL):
                self._still = True
                self._look_after(_FIRST_LOOK)
                return True
            if time.monotonic() > due:
                return False
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def look(self, spared: Collection[int] = ()) -> bool:
        """Stop again whoever has gone on. False when that fails, and at the second time since ``resume``.

        The pauses between two looks double, up to ten seconds, so that an idle session costs next to nothing.
        """
        self._look_after(min(2 * self._pause, _LONGEST_BETWEEN_LOOKS))
        if self._all_still(spared, _STILL | _IN_THE_KERNEL):
            return True
        self._went_on += 1
        return self._went_on < 2 and self.stop(spared)

    def keep(self, spared: Collection[int] = ()) -> bool:
        """Where everyone is to stand still, make sure of it. False as for ``stop``."""
        return not self._still or self._all_still(spared, _STILL | _IN_THE_KERNEL) or self.stop(spared)

    def _stop_from_above(self, roots: Collection[int]) -> None:
        """Have trees of processes stop, each parent before its children, as far as that succeeds in time.

        A shell that still runs when its job stops reports it like one that Ctrl-Z has stopped, and prompts.
        """
        level, due = set(roots), time.monotonic() + _MOST_FROM_ABOVE_SECONDS
        while level and time.monotonic() < due:
            self._boundary.signal(level, signal.SIGSTOP)
            while time.monotonic() < due and not all(states(pid) <= _STILL | _IN_THE_KERNEL for pid in level):
                time.sleep(_FIRST_PAUSE)
            level = {pid for pid in self._boundary.members() if parent(pid) in level}

    def resume(self) -> None:
        """Have everyone go on, but for those that the guest itself had stopped.

        The youngest first: a shell that went on before its jobs would take them for stopped, and one that stops a child
        at once would have it continued after that.
        """
        self._still, self._went_on, self.due = False, 0, math.inf
        members = set(self._boundary.members()) - self._stopped_before
        self._boundary.signal(sorted(members, reverse=True), signal.SIGCONT)
        self._stopped_before = set()

    def resume_one(self, pid: int) -> None:
        """Have one process go on, while everyone else stands still."""
        self._boundary.signal([pid], signal.SIGCONT)

    def stop_one(self, pid: int) -> None:
        """Have it stand still again."""
        self._boundary.signal([pid], signal.SIGSTOP)
        if self._still:
            self._look_after(_FIRST_LOOK)

    def _look_after(self, pause: float) -> None:
        self._pause, self.due = pause, time.monotonic() + pause

    def _all_still(self, spared: Collection[int], still: frozenset[str]) -> bool:
        return all(states(pid) <= still for pid in self._boundary.members() if pid not in spared)
