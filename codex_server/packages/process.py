"""A program of an installation: it is run to its end, while all that it says goes into a log, and a part is told."""

import os
import shlex
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

Tell = Callable[[str], None]
"""Is told how far it is, a step at a time."""

_KEPT_LINES = 400
_QUOTED_LINES = 12
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


class ProgressCallback:
    """Where an installation speaks: its steps to a person, everything into a log."""

    def __init__(self, tell: Tell, log: TextIO) -> None:
        self._tell, self._log = tell, log

    def __call__(self, step: str) -> None:
        """A step, for the person too."""
        self._tell(step)
        self.note(f"== {step}")

    def note(self, line: str) -> None:
        """A line for the log alone."""
        self._log.write(f"{line}\n")
        self._log.flush()


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
    argv: Sequence[str | Path], say: ProgressCallback, shorten: Callable[[str], str | None], *, folder: Path
) -> list[str]:
    """Run ``argv`` in ``folder`` and return the last lines that it said.

    Each line goes into the log, and what ``shorten`` makes of it is said unless that is None. Raises ``CommandFailed``
    when it ends with another code than 0, and ``OSError`` when it cannot be started.
    """
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    say.note(f"$ {shlex.join(map(str, argv))}")
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
            say.note(kept[-1])
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


def quote_end(log: Path) -> str:
    """Where the log is, and its last lines; for the end of a message."""
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    return "\n".join([f"The whole log is {log}; it ends:", *(f"    {line}" for line in lines[-_QUOTED_LINES:])])
