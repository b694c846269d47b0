"""One execution: what init and worker receive, and what init reports of it. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from .codec import Count, Range, Seconds

StopReason = Literal["stop_requested", "cpu_time", "memory"]
"""Why init ended the program: the server requested it, or a limit that init watches was passed."""


@dataclass(frozen=True, slots=True)
class RunOrder:
    """The limits of an execution, and how its payload is laid out: ``header_bytes`` of a ``RunHeader``, then files.

    ``inline_bytes`` and ``inline_total_bytes`` bound the files that are returned, each and all together.
    """

    header_bytes: Count
    payload_bytes: Count
    cpu_seconds: Seconds
    memory_bytes: Count
    processes: Count
    file_bytes: Count
    data_limit: bool
    inline_bytes: Count
    inline_total_bytes: Count
    keep_stdin_open: bool


@dataclass(frozen=True, slots=True)
class InputPiece:
    """More input for the program; with ``end`` nothing follows. The next one waits until this one was taken."""

    end: bool


@dataclass(frozen=True, slots=True)
class InputTaken:
    """The program's standard input has taken every piece so far; ``closed``: it takes no more."""

    closed: bool


@dataclass(frozen=True, slots=True)
class RunHeader:
    """The program: ``file`` is its file among ``files`` (path and size); ``argv`` is empty where an agent runs it."""

    file: str
    files: tuple[tuple[str, Count], ...]
    args: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """What a worker becomes: the command ``argv``, or the program in ``file``, where ``argv`` is empty."""

    file: str
    args: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]


KeptFile = tuple[str, Count]
"""A path and how many bytes of the content are its file's."""
SkippedEntry = tuple[str, Annotated[int, Range(0, 2**63)] | None, str]
"""A path, its size if it is known, and why it is not returned."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """The ending of an execution; ``oom_kills`` is 0 where the server counts them itself."""

    exit_code: Annotated[int, Range(0, 255)] | None
    signal: Annotated[int, Range(1, 64)] | None
    stop: StopReason | None
    wall_seconds: Seconds
    cpu_seconds: Seconds
    peak_memory_bytes: Count
    oom_kills: Count
    files: tuple[KeptFile, ...]
    skipped: tuple[SkippedEntry, ...]
    unlisted: Count
