"""What the processes of a session may not ask, beside the policy of their level: a third table.

A session's processes are stopped between cells, and SIGCONT continues a stopped process whatever it thinks of that
signal. INVARIANT: no process can have the kernel send SIGCONT later on: what a program runs between two cells would be
charged to none of them. ``guest/standstill.py`` lists every source of that signal.
"""

from errno import ENOSYS
from typing import Final

from codex_server.sandboxes.seccomp.rules import Group, Match, Policy, Rule, Values

_INT = 0xFFFF_FFFF
_EXIT_SIGNAL = 0xFF
"""The part of the flags of ``clone`` that is the signal for the parent."""
_SIGCONT = 18
_PR_SET_PDEATHSIG = 1
_F_SETSIG = 10
_CONTINUES = "would continue a stopped process of a session between two cells."

SESSION: Final = Policy(
    "a session",
    (
        Group(
            "Timers that send any signal",
            f"The signal lies in memory, where no filter reads it, and SIGCONT {_CONTINUES} Programs have setitimer, "
            "alarm and timerfd.",
            ("timer_create",),
            ENOSYS,
        ),
    ),
    (
        Rule("clone", 0, _EXIT_SIGNAL, (_SIGCONT,), Values.NEVER, f"SIGCONT for a child's end {_CONTINUES}"),
        Rule(
            "prctl",
            1,
            _INT,
            (_SIGCONT,),
            Values.NEVER,
            f"SIGCONT for a parent's end (PR_SET_PDEATHSIG) {_CONTINUES}",
            where=Match(0, _INT, (_PR_SET_PDEATHSIG,)),
        ),
        Rule(
            "fcntl",
            2,
            _INT,
            (_SIGCONT,),
            Values.NEVER,
            f"SIGCONT for input that has come (F_SETSIG) {_CONTINUES}",
            where=Match(1, _INT, (_F_SETSIG,)),
        ),
    ),
)
"""For every interpreter of a session, its shells and what operates on its files, at every level."""
