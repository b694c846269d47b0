"""The data that travels through the server.

``Execution`` (what to run) -> ``Ending`` (how it ended, from the kernel) -> ``Outcome`` (what the caller gets).
Everything here is frozen and imports only the standard library.
"""

import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from codex_server.limits import Limits


class Status(StrEnum):
    """The result of an execution in one word: a closed set."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SIGNALLED = "signalled"
    TIMED_OUT = "timed_out"
    MEMORY_EXCEEDED = "memory_exceeded"
    OUTPUT_EXCEEDED = "output_exceeded"
    CANCELLED = "cancelled"


class Stop(StrEnum):
    """Why the supervisor stopped a program."""

    WALL_TIME = "wall_time"
    CPU_TIME = "cpu_time"
    MEMORY = "memory"
    OUTPUT = "output"
    CANCELLED = "cancelled"


class Stream(StrEnum):
    """One of the program's two output streams."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to write into the workspace before the run; ``path`` is relative and already validated."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class FileLink:
    """Where a file can be fetched until ``expires_at``."""

    url: str
    size: int
    media_type: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A regular file that the program created or changed in the workspace.

    ``link`` leads to a file that is kept for a while; the content of a large one is then only there, and empty here.
    """

    path: str
    content: bytes
    link: FileLink | None = None


MANY = "*"
"""The path of the entry that summarises skipped files which are not listed."""


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """Something that the program left and that is not returned, and why (``reason`` is a sentence)."""

    path: str
    size: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Terminal:
    """The window of a terminal, in characters."""

    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Stdio:
    """What a program's standard streams are; with ``merged`` both outputs are one pipe, which is ``stdout``.

    With ``terminal`` all three are a pseudo-terminal, and its output is ``stdout``.
    """

    merged: bool = False
    terminal: Terminal | None = None


PIPES = Stdio()
"""A pipe for each of the three."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of one piece of code; the same object travels through the whole server."""

    id: str
    language: str
    code: str
    limits: Limits = field(default_factory=Limits)
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    keep_stdin_open: bool = False
    files: tuple[InputFile, ...] = ()
    inline_bytes: int | None = None
    """The largest file that the response is to carry itself; None: the server's own bound."""
    stdio: Stdio = PIPES


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks for something: ``key`` tells callers apart, ``name`` is for the log."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What a session adds to the ending of an execution in it.

    ``result`` is by media type what the interpreter claims to be the value of the last expression, and ``claimed``
    whether ``exit_code`` is its word too: it lives, and no kernel has counted an end. A forged claim deceives only the
    session that made it. ``interpreter_restarted``: the interpreter ended or was killed, and its variables are gone.
    ``interrupted``: its caller asked for that while it ran. ``session_lost``: the session has ended with it.
    """

    execution_count: int
    result: Mapping[str, object] | None
    claimed: bool
    interpreter_restarted: bool
    interrupted: bool = False
    session_lost: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ended, measured by supervisor and kernel; nothing in it comes from the guest, but for ``cell``.

    Exactly one of ``exit_code`` (0 to 255) and ``signal`` (1 to 64) is set. ``oom_kills`` counts processes that the
    kernel killed for memory. ``cpu_seconds`` and ``peak_memory_bytes`` are None where they could not be measured.
    """

    exit_code: int | None
    signal: int | None
    started_at: datetime
    wall_seconds: float
    cpu_seconds: float | None
    peak_memory_bytes: int | None
    stop: Stop | None = None
    oom_kills: int = 0
    files: tuple[OutputFile, ...] = ()
    skipped_files: tuple[SkippedFile, ...] = ()
    cell: CellFacts | None = None
    """Of an execution in a session."""

    @property
    def status(self) -> Status:
        """The status of this ending; a stop by the supervisor takes precedence over exit code and signal."""
        if self.stop is not None:
            return _STATUS_OF_STOP[self.stop]
        if self.signal == signals.SIGKILL and self.oom_kills:
            return Status.MEMORY_EXCEEDED
        if self.signal is not None:
            return Status.SIGNALLED
        return Status.SUCCEEDED if self.exit_code == 0 else Status.FAILED

    @property
    def shell_exit_code(self) -> int:
        """The program's own code, or 128 + signal when a signal ended it (the shell's convention)."""
        return self.exit_code if self.exit_code is not None else 128 + (self.signal or 0)

    @property
    def signal_name(self) -> str | None:
        """``"SIGSEGV"`` and so on (``"SIG35"`` where it has no name), or None when the program exited by itself."""
        if self.signal is None:
            return None
        try:
            return signals.Signals(self.signal).name
        except ValueError:
            return f"SIG{self.signal}"


_STATUS_OF_STOP = {
    Stop.WALL_TIME: Status.TIMED_OUT,
    Stop.CPU_TIME: Status.TIMED_OUT,
    Stop.MEMORY: Status.MEMORY_EXCEEDED,
    Stop.OUTPUT: Status.OUTPUT_EXCEEDED,
    Stop.CANCELLED: Status.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Captured:
    """What was kept of one output stream: valid text, whether bytes are missing, and their total number."""

    text: str = ""
    truncated: bool = False
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SessionState:
    """How the session of an execution stands at its end. ``expires_at``: None where it has ended too."""

    id: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an execution, as the caller gets it. ``session``: of one in a session."""

    execution_id: str
    ending: Ending
    stdout: Captured
    stderr: Captured
    queue_seconds: float
    limits: Limits
    session: SessionState | None = None

    @property
    def status(self) -> Status:
        """See ``Ending.status``."""
        return self.ending.status

    @property
    def exit_code(self) -> int:
        """See ``Ending.shell_exit_code``."""
        return self.ending.shell_exit_code

    @property
    def signal(self) -> str | None:
        """See ``Ending.signal_name``."""
        return self.ending.signal_name


@dataclass(frozen=True, slots=True)
class ExecutorStats:
    """How many executions run and wait, and how many armed sandboxes each pool has."""

    running: int
    queued: int
    armed: Mapping[str, int]
