"""Runs one command of an installation: its whole output goes into a log, its main steps are shown to a person."""

import os
import shlex
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

StepCallback = Callable[[str], None]
"""Receives a short description of each step."""

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
    """Receives the progress of an installation: steps are shown and logged, other lines are only logged."""

    def __init__(self, report: StepCallback, log: TextIO) -> None:
        self._report, self._log = report, log

    def __call__(self, step: str) -> None:
        """Show a step and log it."""
        self._report(step)
        self.note(f"== {step}")

    def note(self, line: str) -> None:
        """Write a line into the log only."""
        self._log.write(f"{line}\n")
        self._log.flush()


class CommandFailed(Exception):
    """The command exited with ``code``; ``lines`` are the last lines of its output."""

    def __init__(self, code: int, lines: Sequence[str]) -> None:
        super().__init__(f"exit code {code}")
        self.code = code
        self.lines = tuple(lines)

    @property
    def text(self) -> str:
        """The lines as one string."""
        return "\n".join(self.lines)


def run_command(
    argv: Sequence[str | Path], progress: ProgressCallback, shorten: Callable[[str], str | None], *, folder: Path
) -> list[str]:
    """Run ``argv`` in ``folder`` and return the last lines of its output.

    Each line goes into the log. ``shorten`` turns a line into a step to show, or into None. Raises ``CommandFailed``
    when the exit code is not 0, and ``OSError`` when the command cannot be started.
    """
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    progress.note(f"$ {shlex.join(map(str, argv))}")
    with subprocess.Popen(
        argv,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=command_environment(os.environ),
        umask=0o022,  # every guest must be able to read the packages, whatever the operator's umask is
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            kept.append(line.rstrip())
            progress.note(kept[-1])
            if shown := shorten(kept[-1]):
                progress(shown)
    if process.returncode:
        raise CommandFailed(process.returncode, kept)
    return list(kept)


def command_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The operator's variables (a proxy, a registry's address) without those that would misdirect an installer.

    INVARIANT: none of our settings is among them, above all not the token: an installed package may run its own code.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(_NOT_INHERITED)}
    return kept | {"LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def quote_end(log: Path) -> str:
    """The log's path and its last lines, to end an error message with."""
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    return "\n".join([f"The whole log is {log}; it ends:", *(f"    {line}" for line in lines[-_QUOTED_LINES:])])
