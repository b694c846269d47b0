"""The shutdown messages of ``codex-server serve``: how long the stop may take, and that it is over."""

import contextlib

from codex_server.model import ExecutorStats
from codex_server.units import format_seconds

STOPPED = "Stopped."


def describe_stop(stats: ExecutorStats, drain_seconds: float) -> str:
    """Describe what the server still waits for, and how to stop at once."""
    count = stats.running + stats.queued
    if not count:
        return "Stopping."
    executions = "1 execution" if count == 1 else f"{count} executions"
    return f"Stopping: {executions} may take up to {format_seconds(drain_seconds)} more; Ctrl-C again stops at once."


def show(text: str) -> None:
    """Print ``text``; ignore a closed stdout, so that the stop goes on."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
