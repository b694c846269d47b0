"""The cells of a session: each is handed to its interpreter, watched, ended, and reported with what it changed.

INVARIANT: that a cell ended, and with which result, is its interpreter's claim; time, memory, signals and deaths are
the kernel's word. A forged claim ends the forger's own cell, and deceives its own session alone.
"""

import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..protocol import frames
from ..protocol.codec import encode, parse
from ..protocol.session import FILES, CellHeader, CellOrder, CellReport, CellStop, CellStopReason
from ..protocol.session import CellInput as InputReady
from . import workspace
from .cell_input import CellInput, InputPlace, file_of, pipe_of
from .interpreter import Cell, Interpreter, Interpreters
from .process_tree import ProcessTree
from .procfs import parent, states
from .session_bounds import SessionBounds
from .session_workspace import FilesRefused, acting_as, add_files, snapshot
from .slot_config import SlotConfig
from .standstill import Standstill
from .step import step

TICK_SECONDS = 0.1
_MOST_TO_SETTLE_SECONDS = 0.05
_SETTLING_SECONDS = 0.001


class Cells:
    """Those of one session. ``channel`` is to the server."""

    def __init__(
        self,
        config: SlotConfig,
        channel: socket.socket,
        process_tree: ProcessTree,
        interpreters: Interpreters,
        bounds: SessionBounds,
    ) -> None:
        self._config = config
        self._boundary = config.boundary
        self._channel = channel
        self._process_tree = process_tree
        self._interpreters = interpreters
        self._bounds = bounds
        self._standstill = Standstill(config.boundary)
        self._unchanged: dict[str, workspace.Identity] = {}
        self._top = config.boundary.open_workspace()
        self._inputs = workspace.open_folder(config.boundary.inputs)
        self.due = 0.0
        """When the limits are to be looked at next (monotonic)."""

    def begin(self, order: CellOrder, payload: int) -> None:
        """Write its files and hand it to its interpreter, or refuse it; ``payload`` is a descriptor of it."""
        try:
            self._begin(order, payload)
        except FilesRefused as refusal:
            self._report(self._report_of(order, refusal=str(refusal), given=refusal.given))

    def _begin(self, order: CellOrder, payload: int) -> None:
        self._keep_still()
        header = parse(CellHeader, os.pread(payload, order.header_bytes, 0))
        code_at = order.header_bytes
        stdin_at = code_at + header.code_bytes
        self._bounds.check_room(order, sum(size for _, size in header.files), header.stdin_bytes)
        self._add_files(payload, stdin_at + header.stdin_bytes, header.files)
        interpreter = self._interpreters.living.get(order.interpreter)
        if interpreter is None or interpreter.cell:  # nothing to run, or it has died since its last cell
            self._report(self._report_of(order))
            return
        if order.collect:
            self._unchanged = snapshot(self._top, unlocking=not self._is_named)
        stdin = self._input(order, workspace.Part(payload, stdin_at, header.stdin_bytes))
        cell = Cell(order, stdin, time.monotonic(), self._bounds.used_seconds(), self._bounds.oom_kills())
        self.due = time.monotonic() + TICK_SECONDS
        fields = [stdin.path.encode(), str(order.number).encode(), header.options.encode()]
        interpreter.hand_over(cell, [*fields, os.pread(payload, header.code_bytes, code_at)])
        if interpreter.typed:  # what is typed from now on belongs to this cell
            frames.send(self._channel, frames.Kind.CELL_INPUT, encode(InputReady(order.id)))
        if order.interpreter == FILES:
            self._standstill.resume_one(interpreter.pid)
        else:
            self._standstill.resume()

    @property
    def _is_named(self) -> bool:
        """Whether the workspace is a folder of the operator's."""
        return self._config.order.workspace is not None

    def _add_files(self, payload: int, offset: int, files: Sequence[tuple[str, int]]) -> None:
        owner, pin = self._config.order.uid, self._config.order.pin
        if files and pin and pin.read_only:  # no mount keeps init from writing there: Landlock binds the guest alone
            raise FilesRefused(f"{files[0][0]!r} cannot be written: {os.strerror(errno.EROFS)}")
        if self._is_named:
            with acting_as(owner):
                add_files(self._top, payload, offset, files, None)
        else:
            add_files(self._top, payload, offset, files, owner)

    def _input(self, order: CellOrder, part: workspace.Part) -> CellInput:
        place, owner = InputPlace(self._boundary.inputs, self._inputs, str(order.id)), self._config.order.uid
        try:
            return pipe_of(place, owner) if order.open_stdin else file_of(place, part, owner)
        except OSError as error:  # such as of a guest that has filled that folder, or put something in its place
            reason = os.strerror(error.errno or 0)
            raise FilesRefused(f"the standard input cannot be given to the program: {reason}", "stdin") from error

    def stop(self, order: CellStop) -> None:
        """Interrupt it, or kill its interpreter."""
        interpreter = self._interpreters.running(order.id)
        if interpreter is None or interpreter.cell is None:
            return  # it has ended meanwhile
        if order.how == "interrupt":
            interpreter.cell.interrupting = True
        else:
            self._kill(interpreter, "stop_requested")

    def look_at_limits(self) -> None:
        """Kill what has passed one. INVARIANT: they are looked at however busy the guest keeps its init."""
        if time.monotonic() < self.due or not self._interpreters.with_cells:
            return
        self.due = time.monotonic() + TICK_SECONDS
        for interpreter in self._interpreters.with_cells:
            cell = interpreter.cell
            if cell and not cell.stopped and (passed := self._bounds.passed(cell.order, cell.cpu_before)):
                self._kill(interpreter, passed)

    @property
    def still_due(self) -> float:
        """When ``look_at_the_still`` has something to do (monotonic)."""
        return self._standstill.due

    def look_at_the_still(self) -> None:
        """Stop again whoever goes on although all cells have ended; end everyone where that is of no use."""
        if time.monotonic() >= self._standstill.due and not self._standstill.look(self._at_files):
            self._boundary.kill_everyone()

    def _keep_still(self) -> None:
        """INVARIANT: while files are added and noted for a cell, nobody runs whose cell has ended."""
        if not self._standstill.keep(self._at_files):
            self._boundary.kill_everyone()

    @property
    def _at_files(self) -> list[int]:
        """The process that carries out an operation on files, where one does: it runs while all others stand still."""
        files = self._interpreters.living.get(FILES)
        return [files.pid] if files and files.cell else []

    def look(self) -> None:
        """Go on with each cell whose interpreter has done something."""
        for interpreter in self._interpreters.with_cells:
            self._look_at(interpreter)

    def note_deaths(self) -> None:
        """Forget the interpreters that have ended without a cell."""
        self._process_tree.look()
        for interpreter in list(self._interpreters.living.values()):
            if interpreter.cell is None and self._process_tree.ended.pop(interpreter.pid, None) is not None:
                self._interpreters.bury(interpreter)

    def _look_at(self, interpreter: Interpreter) -> None:
        cell = interpreter.cell
        if cell is None:
            return
        if cell.input.writer >= 0 and cell.input.opened():
            self._pass_input(cell)
        if cell.interrupting and interpreter.has_taken:
            cell.interrupting = False
            self._boundary.signal([-interpreter.pid], signal.SIGINT)
        if interpreter.says_too_much:
            self._kill(interpreter, "memory")
        status = self._process_tree.ended.pop(interpreter.pid, None)
        if status is not None or (interpreter.reply is not None and self._has_settled(interpreter, cell)):
            self._end(interpreter, cell, status)

    @staticmethod
    def _has_settled(interpreter: Interpreter, cell: Cell) -> bool:
        """Whether nothing more of the reply's cell comes: a shell replies just before it shows its prompt."""
        if not interpreter.typed:
            return True
        cell.replied = cell.replied or time.monotonic()
        return states(interpreter.pid) == {"S"} or time.monotonic() > cell.replied + _MOST_TO_SETTLE_SECONDS

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Have everyone stand still meanwhile, if that succeeds: an interpreter is started, and nobody disturbs it."""
        running = self._interpreters.with_cells
        if running:
            self._stop()
        try:
            yield
        finally:
            if self._beside_files:
                self._standstill.resume()
            elif running:
                self._standstill.resume_one(running[0].pid)

    def begin_still(self, interpreter: Interpreter) -> None:
        """An interpreter was started: it waits for its first cell like all others.

        A shell shows its first prompt before: what is typed earlier would appear twice.
        """
        pid, due = interpreter.pid, time.monotonic() + _MOST_TO_SETTLE_SECONDS
        while interpreter.typed and states(pid) != {"S"} and time.monotonic() < due:
            time.sleep(_SETTLING_SECONDS)
        if not self._beside_files:
            self._standstill.stop_one(pid)

    @property
    def _beside_files(self) -> bool:
        """Whether a cell runs that is no operation on files: then everyone runs."""
        return any(each.name != FILES for each in self._interpreters.with_cells)

    def _pass_input(self, cell: Cell) -> None:
        frames.send(self._channel, frames.Kind.CELL_INPUT, encode(InputReady(cell.order.id)), (cell.input.writer,))
        os.close(cell.input.writer)
        cell.input.writer = -1

    def _kill(self, interpreter: Interpreter, why: CellStopReason) -> None:
        """Kill an interpreter with all that it has started, and wait until it is dead.

        With a language's, whoever nobody is known to have started goes too: what a killed program left is not wanted.
        """
        cell = interpreter.cell
        if cell and cell.stopped is None:
            cell.stopped = why
        if not self._stop():
            self._boundary.kill_everyone()
        elif interpreter.typed or interpreter.name == FILES:
            self._boundary.signal(self._trees_of({interpreter.pid}), signal.SIGKILL)
        else:
            spared = {each.pid for each in self._interpreters.living.values() if each is not interpreter}
            self._boundary.signal(set(self._boundary.members()) - self._trees_of(spared), signal.SIGKILL)
        self._process_tree.await_end(interpreter.pid)

    def _trees_of(self, roots: set[int]) -> set[int]:
        """``roots`` and all of their descendants."""
        found, parents = set(roots), {pid: parent(pid) for pid in self._boundary.members()}
        while more := {pid for pid, above in parents.items() if above in found} - found:
            found |= more
        return found

    def _end(self, interpreter: Interpreter, cell: Cell, status: int | None) -> None:
        wall = time.monotonic() - cell.began
        others = [each for each in self._interpreters.with_cells if each is not interpreter and each.name != FILES]
        self._stand_still(interpreter, everyone=cell.order.collect or not others)
        reply = interpreter.reply if status is None else None
        with step("collect"):
            listing = self._collect(cell.order)
        usage = self._bounds.usage(cell.cpu_before)
        if status is None:
            interpreter.end_cell()
        else:
            self._interpreters.bury(interpreter)
        if others:
            self._standstill.resume()
        self.note_deaths()
        report = self._report_of(
            cell.order,
            reply_bytes=None if reply is None else len(reply),
            status=status,
            stop=cell.stopped,
            wall_seconds=wall,
            cpu_seconds=usage.cpu_seconds,
            peak_memory_bytes=usage.peak_memory_bytes,
            oom_kills=max(0, self._bounds.oom_kills() - cell.ooms_before),
            files=listing.files,
            skipped=listing.skipped,
            unlisted=listing.unlisted,
        )
        self._report(report, reply or b"", listing.content)

    def _stand_still(self, interpreter: Interpreter, *, everyone: bool) -> None:
        """At the end of a cell. ``everyone``: it was the last one, or its files are to be collected.

        INVARIANT: nobody of the guest runs then, but who carries out an operation on files; who cannot be stopped is
        killed. A shell's command that goes on has everyone go on with it.
        """
        files = self._interpreters.living.get(FILES)
        if interpreter is files:
            self._standstill.stop_one(interpreter.pid)
        elif everyone and not self._stop(self._at_files):
            self._boundary.kill_everyone()

    def _stop(self, spared: Sequence[int] = ()) -> bool:
        """Have everyone but ``spared`` stand still. False when somebody does not."""
        shells = [each.pid for each in self._interpreters.living.values() if each.typed]
        return self._standstill.stop(spared, shells)

    def _collect(self, order: CellOrder) -> workspace.Listing:
        if not order.collect:
            return workspace.Listing((), (), 0, None)
        # Twice: it is collected, and then copied behind the reply.
        total = self._bounds.room(order, 2 * order.inline_total_bytes) // 2
        bounds = min(order.inline_bytes, total), total
        top, unlocking = os.dup(self._top), not self._is_named
        return workspace.collect(top, self._unchanged, *bounds, moving=False, unlocking=unlocking)

    def _report_of(self, order: CellOrder, **facts: object) -> CellReport:
        report = CellReport(
            id=order.id,
            refusal=None,
            reply_bytes=None,
            status=None,
            stop=None,
            wall_seconds=0.0,
            cpu_seconds=0.0,
            peak_memory_bytes=0,
            oom_kills=0,
            ended=tuple(self._interpreters.ended),
            files=(),
            skipped=(),
            unlisted=0,
        )
        self._interpreters.ended.clear()
        return replace(report, **facts)  # type: ignore[arg-type]

    def _report(self, report: CellReport, reply: bytes = b"", content: int | None = None) -> None:
        memory = os.memfd_create("cell", os.MFD_CLOEXEC)
        try:
            os.write(memory, reply)
            if content is not None:
                size, offset = os.fstat(content).st_size, 0
                while offset < size:
                    offset += os.sendfile(memory, content, offset, size - offset)
                os.close(content)
            frames.send(self._channel, frames.Kind.CELL_END, encode(report), (memory,))
        finally:
            os.close(memory)
