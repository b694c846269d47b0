"""A program of an installation: it is run to its end, while what it says is passed on line by line."""

import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Say = Callable[[str], None]
"""Is told what happens, a line at a time."""

_KEPT_LINES = 400
_NOT_INHERITED = (
    "CODEX_",
    "PYTHON",
    "PIP_USER",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_CONSTRAINT",
    "VIRTUAL_ENV",
)


class CommandFailed(Exception):
    """The program ended with ``code``; ``lines`` are the last that it said."""

    def __init__(self, code: int, lines: Sequence[str]) -> None:
        super().__init__(f"exit code {code}")
        self.code = code
        self.lines = tuple(lines)

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines)


def run_command(
    argv: Sequence[str | Path], say: Say, shorten: Callable[[str], str | None], *, folder: Path
) -> list[str]:
    """Run ``argv`` in ``folder`` and return the last lines that it said.

    Each line goes through ``shorten``, and to ``say`` unless that is None. Raises ``CommandFailed`` when it ends with
    another code than 0, and ``OSError`` when it cannot be started.
    """
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    with subprocess.Popen(
        argv,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=command_environment(os.environ),
        umask=0o022,  # what is installed must be readable to every guest, whatever the operator's shell says
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            kept.append(line.rstrip())
            if shown := shorten(kept[-1]):
                say(shown)
    if process.returncode:
        raise CommandFailed(process.returncode, kept)
    return list(kept)


def command_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The operator's variables (a proxy, a registry's address) without those that would lead an installer astray.

    INVARIANT: no setting of ours is among them, the token above all: what is installed may run code of its own.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(_NOT_INHERITED)}
    return kept | {"LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
