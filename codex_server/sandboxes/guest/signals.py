"""Signals to processes of a guest, which may be gone, or be another's by now."""

import contextlib
import os
import resource
import signal
from collections.abc import Collection, Iterable

from .procfs import parent


def hold(pid: int, process_tree: Collection[int]) -> int:
    """Stop a process and keep it from forking; its pidfd, or -1 when it is gone.

    INVARIANT: a number that was given to somebody else meanwhile is not touched: its parent is not of this tree.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    if parent(pid) not in process_tree:
        os.close(pidfd)
        return -1
    with contextlib.suppress(ProcessLookupError, PermissionError):
        resource.prlimit(pid, resource.RLIMIT_NPROC, (0, 0))
    send_by_pidfd(pidfd, signal.SIGSTOP)
    return pidfd


def send(pids: Iterable[int], number: int) -> None:
    """Send ``number`` to those of ``pids`` that are there; to a group where one is negative, to all where it is -1."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def send_by_pidfd(pidfd: int, number: int) -> None:
    """Send ``number`` to the process, if there is one (-1: none)."""
    if pidfd >= 0:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(pidfd, number)
