"""One row of the contract: a program in each language that can say it, and what must become of it."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from signal import Signals

from codex_server.model import PIPES, Outcome, Status, Stdio
from tests.levels import LEVELS


@dataclass(frozen=True)
class Case:
    """``sources`` maps a language (or ``fake``) to a program; all of them must come to the same end.

    ``stdout`` is compared whole, None accepts any; ``stderr`` must be contained, and "" means that nothing was printed.
    ``left`` are the files that must be handed back, all of them (None: any); ``skipped`` are paths that must be listed
    as skipped.
    """

    name: str
    sources: Mapping[str, str]
    status: Status = Status.SUCCEEDED
    exit_code: int = 0
    signal: str | None = None
    """``SIGXCPU|SIGKILL``: either; the exit code is then 128 and the signal's number."""
    stdout: str | None = None
    stderr: str | None = ""
    truncated: bool = False
    stdin: bytes = b""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    stdio: Stdio = PIPES
    left: Mapping[str, bytes] | None = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    levels: tuple[str, ...] = LEVELS

    def source(self, language: str) -> str:
        """The program in that language."""
        return textwrap.dedent(self.sources[language]).removeprefix("\n")

    def check(self, outcome: Outcome) -> None:
        """Compare; the whole outcome is shown when it differs."""
        assert outcome.status is self.status, outcome
        assert (outcome.exit_code, outcome.signal) in self._codes(), outcome
        if self.stdout is not None:
            assert outcome.stdout.text == self.stdout, outcome.stderr
        if self.stderr == "":
            assert outcome.stderr.text == ""
        elif self.stderr is not None:
            assert self.stderr in outcome.stderr.text
        assert (outcome.stdout.truncated or outcome.stderr.truncated) is self.truncated
        self._check_files(outcome)
        self._check_usage(outcome)

    def _codes(self) -> set[tuple[int, str | None]]:
        if self.signal is None:
            return {(self.exit_code, None)}
        return {(128 + Signals[name].value, name) for name in self.signal.split("|")}

    def _check_files(self, outcome: Outcome) -> None:
        if self.left is not None:
            assert {file.path: file.content for file in outcome.ending.files} == dict(self.left)
        for listed in (outcome.ending.files, outcome.ending.skipped_files):
            paths = [file.path for file in listed]
            assert paths == sorted(paths, key=lambda path: (path == "*", path)), paths
        skipped = {file.path: file.reason for file in outcome.ending.skipped_files}
        assert set(self.skipped) <= set(skipped), skipped
        assert all(skipped.values()), "each has a reason"

    def _check_usage(self, outcome: Outcome) -> None:
        ending = outcome.ending
        assert ending.wall_seconds > 0
        assert ending.cpu_seconds >= 0
        assert ending.peak_memory_bytes is None or ending.peak_memory_bytes > 0
        assert outcome.queue_seconds >= 0
        assert ending.started_at.tzinfo is not None


def only(language: str, source: str) -> dict[str, str]:
    """Sources for a case that one language alone can say."""
    return {language: source}
