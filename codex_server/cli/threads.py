"""Threads that are there before they are needed: later the host may have none left to give."""

import threading
from concurrent.futures import ThreadPoolExecutor

_THREADS = 4
"""For what would block the event loop: waiting for a process, removing a folder, reading a file."""


def started_threads() -> ThreadPoolExecutor:
    """An executor all of whose threads run already, so that giving it work makes none. Raises ``RuntimeError``."""
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="codex-server")
    together = threading.Barrier(_THREADS)
    for waiting in [executor.submit(together.wait) for _ in range(_THREADS)]:
        waiting.result()
    return executor
