"""A limit in time for an operation, also for one that is within a single call of a library."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .problem import Problem


@contextmanager
def ended_after(seconds: float, detail: str) -> Iterator[None]:
    """Have the block raise ``Problem`` with ``detail`` after ``seconds``: ``re`` looks for signals while it matches.

    Signals are taken by the main thread, in which the interpreter of operations has all its work; elsewhere there is
    no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise Problem("timeout", detail)

    before = signal.signal(signal.SIGALRM, expire)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)
