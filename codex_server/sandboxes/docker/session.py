"""A session in a container that is kept: frames over its stream, output and input among them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from codex_server.errors import SandboxUnavailable
from codex_server.languages import Language, Languages, Start
from codex_server.limits import Limits
from codex_server.model import Stream, Terminal
from codex_server.sandboxes.docker.engine import Engine, EngineError
from codex_server.sandboxes.docker.images import session_command_in_image, shell_command_in_image
from codex_server.sandboxes.docker.sandbox import Container
from codex_server.sandboxes.docker.terminal import ContainerTerminal
from codex_server.sandboxes.live_cell import Cell
from codex_server.sandboxes.live_session import LiveSession
from codex_server.sandboxes.live_shell import SHELL_PREFIX, TerminalLine
from codex_server.sandboxes.protocol import frames, stream
from codex_server.sandboxes.protocol.cell import interpreter_order
from codex_server.sandboxes.protocol.codec import decode, encode
from codex_server.sandboxes.protocol.launch import ProgramFound
from codex_server.sandboxes.protocol.payload import BackendDefaults
from codex_server.sandboxes.protocol.session import (
    FILES,
    CellInput,
    CellPiece,
    CellReport,
    CellTaken,
    InterpreterOrder,
    KeysTaken,
    OutputOf,
)
from codex_server.sandboxes.protocol.stdio import TerminalSize
from codex_server.sandboxes.session import Content, SessionPlan

_PATIENCE_SECONDS = 5.0
"""How long an init may take to kill an interpreter and to report, before the engine kills the container."""
_STREAMS = {frames.Kind.STDOUT: Stream.STDOUT, frames.Kind.STDERR: Stream.STDERR}
_SHELL = "bash"


@dataclass(frozen=True, slots=True)
class ContainerInterpreters:
    """Those of a session whose image has ``programs``, by language, with ``limits``."""

    languages: Languages
    programs: Mapping[str, ProgramFound | None]
    environment: Mapping[str, str]
    limits: Limits

    def of(self, language: Language) -> InterpreterOrder:
        """See ``InterpreterOrders.of``."""
        if language.start is not Start.FORK and not language.session:
            raise SandboxUnavailable(f"{language.title} has no interpreter for sessions; run it with POST /execute")
        found = self.programs.get(language.name)
        if found is None:
            raise SandboxUnavailable(
                f"sessions run in the image of Python, which has no {language.program} for {language.title}; run it "
                f"with POST /execute, or have the operator build that image from a base with {language.program} "
                "(`codex-server runners build python --base IMAGE`)"
            )
        command = None if language.start is Start.FORK else session_command_in_image(language, found.path)
        environment = {**self.environment, **language.env}
        # V8 reserves far more than it uses.
        data_limit = language.start is not Start.AGENT
        return interpreter_order(language.name, command, environment, self.limits, data_limit=data_limit)

    def of_files(self) -> InterpreterOrder:
        """See ``InterpreterOrders.of_files``."""
        return interpreter_order(FILES, None, self.environment, self.limits)

    def of_shell(self, name: str, size: Terminal) -> InterpreterOrder:
        """See ``InterpreterOrders.of_shell``."""
        bash, found = self.languages.get(_SHELL), self.programs.get(_SHELL)
        if bash is None or found is None:
            raise SandboxUnavailable("the image of Python has no Bash, so a session has no shells")
        environment = {**self.environment, "TERM": "xterm-256color"}
        order = interpreter_order(name, shell_command_in_image(bash, found.path), environment, self.limits)
        return replace(order, terminal=TerminalSize(size.rows, size.columns))


class DockerSession(LiveSession):
    """Serves cells in ``container``, which is its own until it ends."""

    def __init__(
        self,
        engine: Engine,
        container: Container,
        plan: SessionPlan,
        defaults: BackendDefaults,
        orders: ContainerInterpreters,
    ) -> None:
        super().__init__(plan, defaults, orders, patience=_PATIENCE_SECONDS)
        self._engine = engine
        self._container = container
        self._attachment = container.attachment
        self._listeners: dict[bool, Cell] = {}
        self._taking: set[int] = set()
        self._terminals: dict[str, ContainerTerminal] = {}
        self._killing: asyncio.Task[None] | None = None
        self._reader = asyncio.get_running_loop().create_task(self._read())

    def _send(self, kind: frames.Kind, body: frames.Body, content: Sequence[bytes] = ()) -> None:
        self._attachment.send(kind, body, b"".join(content))

    @contextlib.contextmanager
    def _listen(self, cell: Cell) -> Iterator[Callable[[], None]]:
        """What any interpreter's processes print is printed while this cell runs; operations on files apart."""
        group = cell.interpreter == FILES
        self._listeners[group] = cell
        try:
            yield lambda: None  # the relay sends all output before the cell's end
        finally:
            if self._listeners.get(group) is cell:
                del self._listeners[group]

    def _close_input(self, cell: Cell) -> None:
        self._taking.discard(cell.id)

    def _line(self, name: str, output: Content) -> TerminalLine:
        terminal = self._terminals[name]
        terminal.show(output)
        return terminal

    def _kill(self) -> None:
        """Init ends with its stream; should it not heed that, the engine kills it."""
        self._attachment.close()
        self._killing = self._killing or asyncio.get_running_loop().create_task(self._kill_now())

    async def _kill_now(self) -> None:
        with contextlib.suppress(EngineError):  # then it is removed in the end, and that is tried again
            await self._engine.kill(self._container.id)

    async def _read(self) -> None:
        """Take what the container sends, until it is gone."""
        try:
            while True:
                self._take(*await self._attachment.receive())
        except frames.Closed:
            self.lost(await self._why_lost())
        except frames.BadFrame as error:
            self._kill()
            self.lost(f"its sandbox broke the protocol ({error})")

    async def _why_lost(self) -> str:
        """INVARIANT: an init that was killed for memory is said to be, for the engine saw it."""
        with contextlib.suppress(EngineError):
            state = await self._engine.end_state(self._container.id)
            if not state.running and state.oom_killed:
                return "its container had no memory left"
        return "its sandbox was lost"

    def _take(self, kind: frames.Kind, body: frames.Body, content: bytes) -> None:
        if kind in _STREAMS:
            self._take_output(decode(OutputOf, body).name, _STREAMS[kind], content)
        elif kind is frames.Kind.CELL_END:
            report = decode(CellReport, body)
            for name in report.ended:
                self._terminals.pop(name, None)
            self.ended(report, memoryview(content))
        elif kind is frames.Kind.READY:
            self._note_ready(self.started(body))
        elif kind is frames.Kind.CELL_INPUT:
            self._begin_input(decode(CellInput, body).id)
        elif kind is frames.Kind.STDIN_TAKEN:
            self._note_taken(decode(CellTaken, body))
        elif kind is frames.Kind.KEYS_TAKEN:
            taken = decode(KeysTaken, body)
            if terminal := self._terminals.get(taken.name):
                terminal.note_taken(taken)
        else:
            self.failed(kind, body)

    def _note_ready(self, name: str) -> None:
        if name.startswith(SHELL_PREFIX):
            self._terminals[name] = ContainerTerminal(name, self._attachment)

    def _take_output(self, name: str, which: Stream, content: bytes) -> None:
        if terminal := self._terminals.get(name):
            terminal.appear(content)
        elif cell := self._listeners.get(name == FILES):
            self.take_output(cell, which, content)

    def _begin_input(self, identifier: int) -> None:
        if cell := self._cells.get(identifier):
            cell.begun.set()
            if cell.interpreter in self._terminals:
                return  # its input is typed
            self._taking.add(identifier)
            cell.stdin.read_by(lambda: self._send_input(cell))
            self._send_input(cell)

    def _send_input(self, cell: Cell) -> None:
        """Send the next piece of a cell's input, once the container has taken the one before."""
        if cell.id not in self._taking:
            return
        piece = bytes(cell.stdin.peek(stream.CHUNK))
        cell.stdin.take(len(piece))
        if piece or cell.stdin.ended:
            self._taking.discard(cell.id)
            with contextlib.suppress(frames.Closed):  # whoever waits for the cell's end learns of it
                self._attachment.send(frames.Kind.STDIN, encode(CellPiece(cell.id, end=cell.stdin.ended)), piece)

    def _note_taken(self, taken: CellTaken) -> None:
        cell = self._cells.get(taken.id)
        if cell is None:
            return  # it has ended meanwhile
        if taken.closed:
            cell.stdin.abandon()
        else:
            self._taking.add(cell.id)
            self._send_input(cell)

    async def destroy(self) -> None:
        """See ``SessionSandbox.destroy``."""
        if not self.closing():
            return
        self._reader.cancel()
        waited: list[Awaitable[None]] = [self._reader]
        if self._killing:
            waited.append(self._killing)
        await asyncio.gather(*waited, return_exceptions=True)
        self.lost("it was closed")
        self._attachment.close()
        await self._container.remove()
