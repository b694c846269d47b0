"""A session as the server sees it, whatever backend made its sandbox: cells that were sent, their limits, their ends.

A backend's session says how frames, output and input travel (``LiveSession``'s abstract methods).
"""

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from codex_server.errors import InvalidRequest, SandboxFault, SandboxUnavailable
from codex_server.languages import Language
from codex_server.model import CellFacts, Ending, Execution, Stop, Stream, Terminal
from codex_server.sandboxes.live_cell import Cell
from codex_server.sandboxes.live_interpreters import Interpreters
from codex_server.sandboxes.live_shell import SHELL_PREFIX, LiveShell, TerminalLine
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.cell import CellEnd, CellRequest, cell_of, files_of, operation_of, prompt_of
from codex_server.sandboxes.protocol.codec import encode
from codex_server.sandboxes.protocol.payload import BackendDefaults
from codex_server.sandboxes.protocol.report import ending_without_report
from codex_server.sandboxes.protocol.session import (
    CellReport,
    CellStop,
    InterpreterOrder,
    StopHow,
)
from codex_server.sandboxes.session import Content, OutputSink, SessionPlan, SessionSandbox, Shell
from codex_server.sandboxes.stdin import StandardInput

GRACE_SECONDS = 1.0
"""How long an interpreter may take to reply once its cell was interrupted."""
_OPERATION_SECONDS = 60.0


class InterpreterOrders(Protocol):
    """How the interpreters of a session are started."""

    def of(self, language: Language) -> InterpreterOrder:
        """That of ``language``. Raises ``SandboxUnavailable``."""

    def of_files(self) -> InterpreterOrder:
        """The one that operates on files."""

    def of_shell(self, name: str, size: Terminal) -> InterpreterOrder:
        """A shell. Raises ``InvalidRequest`` where no program can have a terminal, ``SandboxUnavailable``."""


class LiveSession(SessionSandbox):
    """``orders`` says how to start interpreters.

    ``patience``: how long a cell may take to end once its interpreter is to be killed; then everything is.
    """

    def __init__(
        self,
        plan: SessionPlan,
        defaults: BackendDefaults,
        orders: "InterpreterOrders",
        *,
        patience: float,
    ) -> None:
        self._plan = plan
        self._defaults = defaults
        self._orders = orders
        self._patience = patience
        self._interpreters = Interpreters(lambda order: self._send(frames.Kind.START, encode(order)), self._kill)
        self._operation_lock = asyncio.Lock()
        self._cells: dict[int, Cell] = {}
        self._shells: dict[str, LiveShell] = {}
        self._current: Cell | None = None
        self._cancelled: Ending | None = None
        self._sent = self._number = 0
        self._destroyed = False
        self._death: str | None = None
        self._on_death: Callable[[str], None] = lambda reason: None

    # --- what a backend says ---

    @abstractmethod
    def _send(self, kind: frames.Kind, body: frames.Body, content: Sequence[bytes] = ()) -> None:
        """Send a frame. Raises ``frames.Closed`` or ``OSError``."""

    @abstractmethod
    def _listen(self, cell: Cell) -> contextlib.AbstractContextManager[Callable[[], None]]:
        """Pass output on to ``cell`` within the context; what it yields is called when the cell has ended."""

    @abstractmethod
    def _close_input(self, cell: Cell) -> None:
        """The cell has ended: nothing more goes to its standard input."""

    @abstractmethod
    def _line(self, name: str, output: Content) -> TerminalLine:
        """The terminal of the shell ``name``, which was started before."""

    @abstractmethod
    def _kill(self) -> None:
        """Kill everything of the session, at once."""

    def _counted(self, ending: Ending) -> Ending:
        """``ending`` with what has counted the cell's use from outside, if anything has. Raises ``SandboxFault``."""
        return ending

    def _begin_count(self) -> None:
        """A cell begins: count from here."""

    # --- the contract ---

    async def fill(self) -> None:
        """Write the plan's files. Raises ``InvalidRequest`` or ``SandboxUnavailable``."""
        if self._plan.files:
            request = files_of(self._plan.files, self._next(), self._plan.limits)
            if await self._carry_out(request, StandardInput()) is None:
                raise SandboxUnavailable("the session's sandbox was lost while it was opened; try again")

    @property
    def alive(self) -> bool:
        """See ``SessionSandbox.alive``."""
        return self._death is None and not self._destroyed

    def on_death(self, callback: Callable[[str], None]) -> None:
        """See ``SessionSandbox.on_death``."""
        self._on_death = callback
        if self._death is not None:
            callback(self._death)

    @property
    def interpreters(self) -> frozenset[str]:
        """See ``SessionSandbox.interpreters``."""
        return self._interpreters.names

    def begin(self, language: Language) -> None:
        """See ``SessionSandbox.begin``."""
        with contextlib.suppress(SandboxUnavailable):  # ``prepare`` says why
            self._interpreters.begin(self._orders.of(language))

    async def prepare(self, language: Language) -> None:
        """See ``SessionSandbox.prepare``."""
        await self._interpreters.ensure(self._orders.of(language))

    async def run(
        self, execution: Execution, language: Language, output: OutputSink, stdin: StandardInput | None = None
    ) -> Ending:
        """See ``SessionSandbox.run``."""
        self._number += 1
        self._cancelled = None
        source = stdin or StandardInput.of(execution)
        found, cell = await self._run_once(execution, language, output, source)
        if found is not None and not found.was_run:  # its interpreter had died since its last cell
            found, cell = await self._run_once(execution, language, output, source, restarted=True)
        return self._ending(cell, found)

    async def _run_once(
        self,
        execution: Execution,
        language: Language,
        output: OutputSink,
        stdin: StandardInput,
        *,
        restarted: bool = False,
    ) -> tuple[CellEnd | None, Cell]:
        await self._interpreters.ensure(self._orders.of(language))
        request = cell_of(execution, language, self._next(), self._number, self._defaults)
        self._begin_count()
        cell = self._hand_over(request, stdin, output)
        cell.restarted = restarted
        self._current = cell
        self._later(cell, execution.limits.wall_seconds, partial(self._end, cell, Stop.WALL_TIME))
        try:
            with self._listen(cell) as finish:
                end = await self._ended(cell)
                finish()
            return end, cell
        except asyncio.CancelledError:
            self._cancelled = self._cancelled_ending(cell)
            raise
        finally:
            self._current = None
            self._forget(cell)

    def _cancelled_ending(self, cell: Cell) -> Ending | None:
        found = cell.end.result() if cell.end.done() else None
        if found is None or found.was_run:
            with contextlib.suppress(SandboxFault):  # then nobody knows
                return self._ending(cell, found)
        return None

    @property
    def cancelled(self) -> Ending | None:
        """See ``SessionSandbox.cancelled``."""
        return self._cancelled

    def interrupt(self) -> bool:
        """See ``SessionSandbox.interrupt``."""
        if self._current is None or self._current.end.done():
            return False
        self._current.interrupted = True
        self._send_stop(self._current, "interrupt")
        return True

    async def operate(
        self, request: Mapping[str, object], content: StandardInput, output: Content
    ) -> Mapping[str, object]:
        """See ``SessionSandbox.operate``."""
        async with self._operation_lock:
            await self._interpreters.ensure(self._orders.of_files())
            order = operation_of(request, self._next(), self._plan.limits, with_content=not content.ended)
            end = await self._carry_out(order, content, output)
        if end is None or end.reply is None:
            raise SandboxFault("the operation on the session's files was lost; its outcome is unknown")
        found = end.reply.get("result")
        reply = found.get("application/json") if isinstance(found, dict) else None
        return reply if isinstance(reply, dict) else {}

    async def open_shell(self, name: str, size: Terminal, output: Content) -> Shell:
        """See ``SessionSandbox.open_shell``."""
        order = self._orders.of_shell(SHELL_PREFIX + name, size)
        await self._interpreters.ensure(order)
        if order.name not in self._interpreters:
            raise SandboxUnavailable("the shell ended as it started; nothing was run")
        line, begin, kill = self._line(order.name, output), self._begin_shell, self._kill_shell
        shell = self._shells[order.name] = LiveShell(line, partial(begin, order.name), partial(kill, order.name))
        return shell

    def _begin_shell(self, name: str) -> Cell:
        """Have the shell run until its next prompt, or its end."""
        request = prompt_of(name, self._next(), self._plan.limits)
        cell = self._hand_over(request, StandardInput(), lambda stream, chunk: True)
        cell.end.add_done_callback(lambda _: self._forget(cell))
        return cell

    def _kill_shell(self, name: str) -> None:
        for cell in self._cells.values():
            if cell.interpreter == name:
                self._send_stop(cell, "kill")

    def _end_shells(self, names: Iterable[str]) -> None:
        """INVARIANT: a shell's line is closed when it ends, or its session does, though nobody waits for it."""
        for name in names:
            if shell := self._shells.pop(name, None):
                shell.end()

    # --- cells ---

    def _ending(self, cell: Cell, end: CellEnd | None) -> Ending:
        if end is not None:
            restarted = cell.restarted or cell.interpreter in end.report.ended
            ending = end.ending(self._number, cell.started_at, cell.requested, restarted=restarted)
            facts = replace(ending.cell, interrupted=cell.interrupted) if ending.cell else None
            return self._counted(replace(ending, cell=facts))
        if cell.requested is None:
            raise SandboxFault("the session's sandbox was lost while the program ran; its outcome is unknown")
        wall = asyncio.get_running_loop().time() - cell.began
        facts = CellFacts(self._number, None, claimed=False, interpreter_restarted=True, session_lost=True)
        return replace(ending_without_report(cell.started_at, wall, cell.requested), cell=facts)

    async def _carry_out(
        self, request: CellRequest, content: StandardInput, output: Content | None = None
    ) -> CellEnd | None:
        def take(stream: Stream, chunk: bytes) -> bool:
            return stream is Stream.STDERR or output is None or output(chunk)

        cell = self._hand_over(request, content, take)
        self._later(cell, _OPERATION_SECONDS, partial(self._check_progress, cell, 0))
        try:
            with self._listen(cell) as finish:
                end = await self._ended(cell)
                finish()
            return end
        finally:
            self._forget(cell)

    def _check_progress(self, cell: Cell, passed_before: int) -> None:
        """Its time is over: kill it, unless its content, which may come from far, has moved on meanwhile."""
        passed = cell.stdin.passed
        if passed == passed_before:
            self._send_stop(cell, "kill")
        else:
            self._later(cell, _OPERATION_SECONDS, partial(self._check_progress, cell, passed))

    async def _ended(self, cell: Cell) -> CellEnd | None:
        """The cell's end; when the caller's task is cancelled, the cell is ended first."""
        try:
            end = await asyncio.shield(cell.end)
        except asyncio.CancelledError:
            self._end(cell, Stop.CANCELLED)
            await asyncio.wait([cell.end])
            raise
        if end and end.report.refusal:
            raise InvalidRequest(f"{end.report.refusal}; nothing was run", f"/{end.report.given}")
        return end

    def _hand_over(self, request: CellRequest, stdin: StandardInput, output: OutputSink) -> Cell:
        loop, order = asyncio.get_running_loop(), request.order
        cell = Cell(order.id, order.interpreter, output, stdin, loop.create_future(), loop.time())
        try:
            self._send(frames.Kind.CELL, encode(order), request.parts)
        except (frames.Closed, OSError) as error:
            raise SandboxUnavailable("the session's sandbox is gone; nothing was run") from error
        self._cells[cell.id] = cell
        return cell

    def take_output(self, cell: Cell, stream: Stream, chunk: bytes) -> bool:
        """Pass on what was printed while ``cell`` ran; a cell that floods is ended."""
        wanted = cell.output(stream, chunk)
        if not wanted:
            self._end(cell, Stop.OUTPUT)
        return wanted

    def _end(self, cell: Cell, reason: Stop) -> None:
        """Three steps: interrupt the cell, kill its interpreter, kill everything."""
        if cell.requested is not None or cell.end.done():
            return
        cell.requested = reason
        self._send_stop(cell, "interrupt")
        self._later(cell, GRACE_SECONDS, partial(self._send_stop, cell, "kill"))
        self._later(cell, GRACE_SECONDS + self._patience, self._kill)

    def _send_stop(self, cell: Cell, how: StopHow) -> None:
        with contextlib.suppress(frames.Closed, OSError):  # then the session is lost, and the cell with it
            self._send(frames.Kind.CELL_STOP, encode(CellStop(cell.id, how)))

    def _forget(self, cell: Cell) -> None:
        self._cells.pop(cell.id, None)
        for timer in cell.timers:
            timer.cancel()
        self._close_input(cell)
        if cell.end.done() and (end := cell.end.result()) and not end.was_run:
            return  # its input is the next try's
        cell.stdin.abandon()

    def _later(self, cell: Cell, seconds: float, action: Callable[[], None]) -> None:
        cell.timers.append(asyncio.get_running_loop().call_later(seconds, action))

    def _next(self) -> int:
        self._sent += 1
        return self._sent

    # --- for the backend, when a frame came ---

    def started(self, body: frames.Body) -> str:
        """An interpreter is ready: its name. Raises ``frames.BadFrame``."""
        return self._interpreters.ready(body)

    def failed(self, kind: frames.Kind, body: frames.Body) -> None:
        """Something that was asked for failed. Raises ``frames.BadFrame`` when nothing was."""
        self._interpreters.failed(kind, body)

    def ended(self, report: CellReport, content: memoryview) -> None:
        """A cell has ended, and perhaps interpreters with it."""
        self._interpreters.ended(report.ended)
        self._end_shells(report.ended)
        cell = self._cells.get(report.id)
        if cell and not cell.end.done():
            cell.begun.set()
            cell.end.set_result(CellEnd(report, content))

    def lost(self, reason: str) -> None:
        """Everything of the session is gone."""
        self._death = self._death or reason
        for cell in list(self._cells.values()):
            cell.begun.set()
            if not cell.end.done():
                cell.end.set_result(None)
        self._interpreters.lose()
        self._end_shells(tuple(self._shells))
        if not self._destroyed:
            self._on_death(self._death)

    def closing(self) -> bool:
        """``destroy`` begins: cells that run are cancelled. False when it has begun before."""
        if self._destroyed:
            return False
        self._destroyed = True
        for cell in self._cells.values():
            cell.requested = cell.requested or Stop.CANCELLED
        return True
