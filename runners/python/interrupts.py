"""What SIGINT does to a session: it interrupts a cell, and nothing else."""

import _signal  # type: ignore[import-not-found]
from functools import partial
from signal import signal
from typing import Any

_raise = partial(_signal.default_int_handler)
"""``KeyboardInterrupt`` at once, wherever the program is. It is not the default handler itself: ``asyncio`` replaces
that by one that merely cancels the task, and a task that computes does not notice."""


def ignore(_number: int, _frame: Any) -> None:
    """Do nothing. A handler, because what is ignored (``SIG_IGN``) is ignored by child processes too."""


def turn_on() -> None:
    """From now on SIGINT raises ``KeyboardInterrupt``, whatever an earlier cell has made of it."""
    signal(_signal.SIGINT, _raise)


def turn_off() -> None:
    """From now on SIGINT does nothing; one that comes meanwhile is too late."""
    while True:
        try:
            signal(_signal.SIGINT, ignore)
        except KeyboardInterrupt:
            continue
        return
