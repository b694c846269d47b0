"""A session's slot: what the server and its init send one another. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from .codec import Count, Range, Seconds
from .run import KeptFile, SkippedEntry
from .stdio import TerminalSize

MOST_IN_REPLY = 8 * 2**20
"""The longest reply of an interpreter to a cell, in bytes; one that says more is killed."""
FILES = "files"
"""The name of the interpreter that carries out operations on files."""


@dataclass(frozen=True, slots=True)
class InterpreterOrder:
    """Start the interpreter ``name``: the command ``agent``, or where that is None what the zygote has warm.

    The limits are its own for its life. One with a ``terminal`` is a shell: its cells are typed there, and not sent.
    """

    name: str
    agent: tuple[str, ...] | None
    env: Mapping[str, str]
    memory_bytes: Count
    processes: Count
    file_bytes: Count
    data_limit: bool
    terminal: TerminalSize | None = None


@dataclass(frozen=True, slots=True)
class InterpreterReady:
    """The interpreter ``name`` waits for its first cell; the server's ends of its outputs are beside the frame.

    Of a shell it is one descriptor, the server's end of its terminal.
    """

    name: str


@dataclass(frozen=True, slots=True)
class CellOrder:
    """The next cell of an interpreter. Its payload is a ``CellHeader``, the code, the standard input, then files.

    ``interpreter`` "" runs nothing: the files alone are written. ``collect``: what the cell changed is returned, and
    everybody stands still meanwhile. ``open_stdin``: more input follows, by a descriptor that the server is given.
    """

    id: Count
    interpreter: str
    number: Count
    header_bytes: Count
    payload_bytes: Count
    cpu_seconds: Seconds
    memory_bytes: Count
    inline_bytes: Count
    inline_total_bytes: Count
    collect: bool
    open_stdin: bool


@dataclass(frozen=True, slots=True)
class CellHeader:
    """``options`` is the JSON text that the interpreter is given; ``files`` are paths and sizes."""

    options: str
    code_bytes: Count
    stdin_bytes: Count
    files: tuple[tuple[str, Count], ...]


@dataclass(frozen=True, slots=True)
class CellInput:
    """The cell ``id`` has opened its standard input; the end to write to is beside the frame.

    Of a shell: what is typed from now on belongs to the cell.
    """

    id: Count


@dataclass(frozen=True, slots=True)
class CellPiece:
    """More standard input for the cell ``id``, beside the frame (container); ``end``: nothing follows it."""

    id: Count
    end: bool


@dataclass(frozen=True, slots=True)
class CellTaken:
    """The cell ``id`` has taken all of a piece, and the next may come; ``closed``: it takes no more at all."""

    id: Count
    closed: bool


@dataclass(frozen=True, slots=True)
class OutputOf:
    """Whose output is beside the frame: the interpreter ``name``, or a process that it started (container)."""

    name: str


@dataclass(frozen=True, slots=True)
class Keys:
    """What is typed at the terminal of the shell ``name`` is beside the frame (container)."""

    name: str


@dataclass(frozen=True, slots=True)
class KeysTaken:
    """The terminal of the shell ``name`` has taken what was typed; ``closed``: it takes no more at all."""

    name: str
    closed: bool


@dataclass(frozen=True, slots=True)
class Window:
    """The window of the shell ``name`` has another size (container)."""

    name: str
    size: TerminalSize


StopHow = Literal["interrupt", "kill"]


@dataclass(frozen=True, slots=True)
class CellStop:
    """End the cell ``id``: interrupt it, or kill its interpreter and all that it left running."""

    id: Count
    how: StopHow


CellStopReason = Literal["stop_requested", "cpu_time", "memory"]
"""Why init ended a cell by killing: it was requested, or a limit that init watches was passed."""


Given = Literal["files", "stdin"]
"""What a cell is given beside its code."""


@dataclass(frozen=True, slots=True)
class CellReport:
    """The end of the cell ``id``: its interpreter replied (``reply_bytes``), or ended (``status`` of wait(2)).

    Neither: nothing was run, for there was no interpreter of that name.

    ``refusal``: why what it was ``given`` could not be written; nothing was run then. ``ended`` names every interpreter
    that has ended since the last report. ``oom_kills`` is 0 where the server counts them itself. The reply and the kept
    files are beside the frame, one after the other.
    """

    id: Count
    refusal: str | None
    reply_bytes: Count | None
    status: Annotated[int, Range(0, 2**16 - 1)] | None
    stop: CellStopReason | None
    wall_seconds: Seconds
    cpu_seconds: Seconds
    peak_memory_bytes: Count
    oom_kills: Count
    ended: tuple[str, ...]
    files: tuple[KeptFile, ...]
    skipped: tuple[SkippedEntry, ...]
    unlisted: Count
    given: Given = "files"
