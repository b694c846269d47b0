"""The contract of a session's sandbox: one workspace, and one live interpreter for each language that was used.

An execution in it is a *cell*: the interpreter stays, and with it everything that the program has defined. Between two
cells nothing of the guest runs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_server.languages import Language
from codex_server.limits import Limits
from codex_server.model import Ending, Execution, InputFile, Stream, Terminal
from codex_server.sandboxes.stdin import StandardInput

OutputSink = Callable[[Stream, bytes], bool]
"""Takes a chunk of output as it arrives, without blocking. False requests the stop of the program: it floods."""
Content = Callable[[bytes], bool]
"""Takes a chunk of a file's content, without blocking. False: no more is wanted."""


@dataclass(frozen=True, slots=True)
class NamedWorkspace:
    """A folder of the operator's that a session has as its workspace; what is written there stays."""

    name: str
    folder: Path
    read_only: bool


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """A session to open. ``limits`` are what all of its processes have together, ``files`` its first files.

    ``workspace``: None for one of its own, in memory, which ends with it. ``begin`` names languages whose interpreters
    are started at once, in the background.
    """

    id: str
    limits: Limits
    files: tuple[InputFile, ...] = ()
    workspace: NamedWorkspace | None = None
    begin: tuple[str, ...] = ()


class Shell(ABC):
    """A shell in a session: bash at a terminal of its own, which a person or a program types at."""

    @abstractmethod
    async def type(self, data: bytes) -> None:
        """Type ``data``, and let it run. Raises ``InputRefused`` when it has ended, or does not read."""

    @abstractmethod
    def resize(self, rows: int, columns: int) -> None:
        """Change the size of its window; the program in it is told (SIGWINCH)."""

    @abstractmethod
    async def wait_for_prompt(self) -> "Prompt | None":
        """Return when the shell prompts after what was typed last; None when it has ended instead.

        Everything of the session runs until then. One call at a time; a caller that is cancelled leaves the command
        running, and the next call goes on to wait for it.
        """

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it has not prompted yet."""

    @abstractmethod
    async def close(self) -> None:
        """Kill it, and what runs in it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a shell says as it prompts: the exit code of the last command, and its folder. It is the guest's claim."""

    exit_code: int
    folder: str


class SessionSandbox(ABC):
    """A sandbox that serves many cells. The caller sees to it that one runs at a time; file operations may run beside.

    INVARIANT: nothing of the guest runs between cells and file operations, so an idle session uses no CPU time, and all
    output until a cell's ending is that cell's.
    """

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it can serve another cell."""

    @abstractmethod
    def on_death(self, callback: Callable[[str], None]) -> None:
        """Have ``callback`` called once, with why in a sentence, when the sandbox dies without ``destroy``."""

    @property
    @abstractmethod
    def interpreters(self) -> frozenset[str]:
        """The languages whose interpreters live, among other names."""

    @abstractmethod
    def begin(self, language: Language) -> None:
        """Begin to start the language's interpreter, if there is none; ``prepare`` then waits for that start."""

    @abstractmethod
    async def prepare(self, language: Language) -> None:
        """Have the language's interpreter started, if there is none. Raises ``SandboxUnavailable``."""

    @abstractmethod
    async def run(
        self, execution: Execution, language: Language, output: OutputSink, stdin: StandardInput | None = None
    ) -> Ending:
        """Run ``execution`` as the next cell, after ``prepare``.

        ``Ending.cell`` says what became of the interpreter, and the result that it claims. A cell beyond its time is
        interrupted (SIGINT); an interpreter that does not reply within a second is killed, and the files stay.
        Cancelling the caller's task ends the cell in the same way. Raises ``SandboxUnavailable`` when the interpreter
        could not be started, so that nothing of the program has begun, and ``SandboxFault`` when the sandbox was lost.
        """

    @property
    def cancelled(self) -> Ending | None:
        """How the cell ended whose caller was cancelled last; None where nothing is known of it."""
        return None

    @abstractmethod
    def interrupt(self) -> bool:
        """Interrupt the cell that runs, as Ctrl-C would. False when none runs."""

    @abstractmethod
    async def operate(
        self, request: Mapping[str, object], content: StandardInput, output: Content
    ) -> Mapping[str, object]:
        """Carry out one operation on files, as the guest and within its confinement (``sandboxes/files``).

        ``content`` is what is to be written, ``output`` receives what was read; the reply says the rest. It is the
        guest's claim: it was made where the guest's own processes may reach. Raises ``SandboxFault``.
        """

    @abstractmethod
    async def open_shell(self, name: str, size: Terminal, output: Content) -> Shell:
        """Start the shell ``name``; ``output`` takes what appears at its terminal.

        Raises ``InvalidRequest`` where no program can have a terminal, and ``SandboxUnavailable``.
        """

    @abstractmethod
    async def destroy(self) -> None:
        """Kill and free everything; safe to call twice."""
