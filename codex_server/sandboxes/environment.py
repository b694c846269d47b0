"""What a program finds in its environment, in whatever sandbox it runs.

INVARIANT: it is built from nothing; no variable of the server is in it.
"""

import os
from collections.abc import Iterable

from codex_server.settings import Settings

ABSENT = "guest/absent"
"""The folder of the guest side's code with programs that say why nothing can be installed: first in PATH, for a host
may have the real ones, which try for minutes to reach a registry."""
GUEST_PACKAGES = ("files", "guest", "protocol")
"""The packages of ``sandboxes`` that run on the guest's side; they import nothing else of ``codex_server``."""
_MOST_THREADS = 8
"""numpy starts a thread for each processor, and processes are limited."""


def guest_environment(folders: Iterable[str], temp: str = "/tmp") -> dict[str, str]:  # noqa: S108
    """``folders`` go before the system's in PATH; ``temp`` is the home and the folder for temporary files."""
    return {
        "HOME": temp,
        "LANG": "C.UTF-8",
        "LOGNAME": "runner",
        "PATH": ":".join(dict.fromkeys((*folders, "/usr/local/bin", "/usr/bin", "/bin"))),
        "SHELL": "/bin/sh",
        "TERM": "xterm",  # for what asks what a terminal can do, such as clear and tput, and fails without an answer
        "TMPDIR": temp,
        "USER": "runner",
    }


def packages_environment(settings: Settings) -> dict[str, str]:
    """Variables that the Python data packages need, where they are: as few as possible."""
    found = {} if settings.save_figures else {"MPLBACKEND": "Agg"}
    if len(os.sched_getaffinity(0)) > _MOST_THREADS:
        found |= {"OPENBLAS_NUM_THREADS": str(_MOST_THREADS), "OMP_NUM_THREADS": str(_MOST_THREADS)}
    return found
