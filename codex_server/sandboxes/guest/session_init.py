"""The init of a session's slot: PID 1, TRUSTED. It keeps interpreters and hands them cells (``cells.py``).

``SessionInit.serve`` is the order of its life. Between cells everyone of the guest stands still (``standstill.py``).
"""

import contextlib
import math
import os
import select
import signal
import socket
import time
from dataclasses import replace

from ..protocol import frames
from ..protocol.codec import decode, encode
from ..protocol.session import FILES, CellOrder, CellStop, InterpreterOrder, InterpreterReady
from ..protocol.slot import Role, SlotReady
from ..protocol.stdio import StdioOrder
from . import worker_start
from .boundary import Boundary
from .cells import Cells
from .interpreter import Interpreter, Interpreters
from .locks import PAUSE_SECONDS, Locks
from .notice_server import NoticeServer
from .notices import all_left
from .process_tree import ProcessTree
from .session_bounds import SessionBounds
from .slot_config import SlotConfig
from .slot_entry import enter_slot
from .step import StepFailed, step
from .watch import SLOT

_SHORT_PAUSE_SECONDS = 0.002
"""How often init looks at what nothing reports."""


class SessionInit:
    """One session's slot, from its making to its end."""

    def __init__(
        self, config: SlotConfig, channel: socket.socket, process_tree: ProcessTree, cgroups: list[int]
    ) -> None:
        self.channel = channel
        self.process_tree = process_tree
        self._config = config
        self._boundary: Boundary = config.boundary
        self._cgroups = cgroups
        self._interpreters = Interpreters()
        self._locks = Locks()

    def serve(self) -> None:
        """Serve cells until the server closes the channel."""
        enter_slot(self._boundary, self._cgroups)
        self._boundary.make_inputs()
        bounds = self._make_bounds()
        self._cells = Cells(self._config, self.channel, self.process_tree, self._interpreters, bounds)
        self._limit = bounds.limit
        frames.send(self.channel, frames.Kind.READY, encode(SlotReady()), (os.pidfd_open(os.getpid()),))
        with contextlib.suppress(frames.Closed):
            while True:
                self._serve_events(self._poll())
                self._cells.look_at_limits()
                self._cells.look_at_the_still()
                self._cells.look()

    def _make_bounds(self) -> SessionBounds:
        on_disk = self._config.order.workspace is not None
        return SessionBounds(self._config.template.setup, self._boundary, self.process_tree, on_disk=on_disk)

    def _poll(self) -> dict[int, int]:
        poll = select.poll()
        for descriptor in (SLOT, *self.process_tree.watched):
            poll.register(descriptor, select.POLLIN)
        for each in self._interpreters.living.values():
            if each.wants:
                poll.register(each.channel, each.wants)
            if each.notices and each.notices.listener >= 0:
                poll.register(each.notices.listener, select.POLLIN)
        pause = self._pause()
        return dict(poll.poll(None if pause is None else pause * 1000))

    def _pause(self) -> float | None:
        """How long nothing is to be done unless something happens; None: for ever, since nothing has run yet."""
        running = self._interpreters.with_cells
        if not running:
            due = self._cells.still_due
            return None if due == math.inf else max(0.0, due - time.monotonic())
        if any(each.notices and each.notices.locks.waits for each in running):
            return PAUSE_SECONDS
        if any(each.cell and each.cell.waits for each in running):
            return _SHORT_PAUSE_SECONDS
        return max(0.0, self._cells.due - time.monotonic())

    def _serve_events(self, events: dict[int, int]) -> None:
        if any(descriptor in events for descriptor in self.process_tree.watched):
            self._cells.note_deaths()
        for interpreter in list(self._interpreters.living.values()):
            if interpreter.channel.fileno() in events:
                interpreter.serve()
            if interpreter.notices:
                self._serve_notices(interpreter.notices, events)
        if SLOT in events:
            self._serve_frame()

    def _serve_notices(self, notices: NoticeServer, events: dict[int, int]) -> None:
        found = events.get(notices.listener, 0)
        if all_left(found):
            os.close(notices.listener)
            notices.listener = -1
        elif found and (notice := notices.receive()):
            notices.let_go(notice)
        if notices.listener >= 0:
            notices.locks.serve_waiting()

    def _serve_frame(self) -> None:
        kind, body, descriptors = frames.receive(self.channel)
        if kind is frames.Kind.START:
            self._start(decode(InterpreterOrder, body))
        elif kind is frames.Kind.CELL:
            self._cells.begin(decode(CellOrder, body), descriptors[0])
        elif kind is frames.Kind.CELL_STOP:
            self._cells.stop(decode(CellStop, body))
        for descriptor in descriptors:
            os.close(descriptor)

    def _start(self, order: InterpreterOrder) -> None:
        """Start an interpreter. A failure is reported, and the session goes on."""
        try:
            with step("interpreter"), self._cells.standing_still():
                pid, armed = self._arm(order)
        except StepFailed as failure:
            self._cells.note_deaths()
            frames.send(self.channel, frames.Kind.FAULT, encode(failure.as_message))
            return
        if armed.used_internet:
            self._boundary.note_internet()
        notices = None
        if armed.listener >= 0:
            notices = NoticeServer(self._boundary, self._locks)
            notices.listener = armed.listener
        interpreter = Interpreter(order.name, pid, armed.request, notices, typed=order.terminal is not None)
        self._interpreters.living[order.name] = interpreter
        self._cells.begin_still(interpreter)
        frames.send(self.channel, frames.Kind.READY, encode(InterpreterReady(order.name)), armed.streams)
        for descriptor in armed.streams:
            os.close(descriptor)

    def _arm(self, order: InterpreterOrder) -> tuple[int, worker_start.Armed]:
        """The pid of a worker that waits, within its limits. One that does not get there is killed and forgotten."""
        role: Role = "files" if order.name == FILES else "interpreter"
        stdio = StdioOrder(merged=False, terminal=order.terminal)
        slot = replace(self._config.order, agent=order.agent, env=order.env, role=role, stdio=stdio)
        config = replace(self._config, order=slot)
        with contextlib.ExitStack() as undo:
            pid, request, outputs = worker_start.start_interpreter(self.process_tree, config, self._cgroups)
            undo.callback(self._end_worker, pid)
            undo.callback(request.close)
            for descriptor in outputs:
                undo.callback(os.close, descriptor)
            armed = worker_start.await_ready(request, outputs)
            if armed.listener >= 0:
                undo.callback(os.close, armed.listener)
            self._limit(pid, order)
            undo.pop_all()
        return pid, armed

    def _end_worker(self, pid: int) -> None:
        self._boundary.signal([pid], signal.SIGKILL)
        self.process_tree.await_end(pid)
        del self.process_tree.ended[pid]  # the next one may have its number
