"""What ``codex-server serve`` says when a signal ends it: how long that may take, and that it is over."""

import contextlib

from codex_server.model import ExecutorStats
from codex_server.units import format_seconds

STOPPED = "Stopped."


def describe_stop(stats: ExecutorStats, drain_seconds: float) -> str:
    """What the server still waits for, and how not to wait."""
    count = stats.running + stats.queued
    if not count:
        return "Stopping."
    executions = "1 execution" if count == 1 else f"{count} executions"
    return f"Stopping: {executions} may take up to {format_seconds(drain_seconds)} more; Ctrl-C again stops at once."


def say(text: str) -> None:
    """Print ``text``; whoever read the start message may be gone by now, and the stop goes on without them."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
