"""Threads that are started in advance: later the host may refuse new ones."""

import threading
from concurrent.futures import ThreadPoolExecutor

_THREADS = 4
"""For work that would block the event loop: waiting for a process, removing a folder, reading a file."""


def started_threads() -> ThreadPoolExecutor:
    """Return an executor whose threads are all running, so that work starts none. Raises ``RuntimeError``."""
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="codex-server")
    together = threading.Barrier(_THREADS)
    for waiting in [executor.submit(together.wait) for _ in range(_THREADS)]:
        waiting.result()
    return executor
