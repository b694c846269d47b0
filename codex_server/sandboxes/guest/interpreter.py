"""An interpreter of a session as its init sees it: a worker that stays, and the channel over which it is handed cells.

INVARIANT: init takes nothing of what an interpreter sends for the truth: a reply, whatever it says, only ends the
interpreter's own cell; its bytes are passed on unread.
"""

import array
import contextlib
import fcntl
import os
import select
import socket
import termios
from dataclasses import dataclass, field

from ..protocol.session import MOST_IN_REPLY, CellOrder, CellStopReason
from .cell_input import CellInput
from .notice_server import NoticeServer

_READ_AT_ONCE = 2**16
_END = b"\0"


@dataclass(slots=True)
class Cell:
    """A cell that runs. ``stopped``: why init, or the server, has ended it by killing; ``cpu_before``: of the slot, as
    ``ooms_before``.

    ``replied``: when a shell's reply was seen (monotonic); ``interrupting``: it is to be interrupted.
    """

    order: CellOrder
    input: CellInput
    began: float
    cpu_before: float
    ooms_before: int
    stopped: CellStopReason | None = None
    replied: float = 0.0
    interrupting: bool = False

    @property
    def waits(self) -> bool:
        """Whether it waits for what nothing reports: its input to be opened, a prompt shown, a cell taken."""
        return self.input.writer >= 0 or self.replied > 0 or self.interrupting


class Interpreter:
    """``pid`` is its worker's, ``channel`` is ours to close; ``notices`` is None where the kernel offers none.

    ``typed``: it is a shell, whose cells the server types at its terminal; its next prompt is the reply.
    """

    def __init__(
        self, name: str, pid: int, channel: socket.socket, notices: NoticeServer | None, *, typed: bool = False
    ) -> None:
        channel.setblocking(False)
        self.name = name
        self.pid = pid
        self.channel = channel
        self.notices = notices
        self.typed = typed
        self.cell: Cell | None = None
        self._unsent = memoryview(b"")
        self._received = bytearray()
        self._gone = False

    def hand_over(self, cell: Cell, fields: list[bytes]) -> None:
        """Send a cell. What the interpreter has sent unasked since its last reply is dropped."""
        self._receive()
        self._received.clear()
        self.cell = cell
        self._unsent = memoryview(b"" if self.typed else _END.join([*fields, b""]))
        self._send()

    @property
    def wants(self) -> int:
        """What of its channel is to be polled for; 0: nothing, it has closed it."""
        if self._gone or self.cell is None:
            return 0
        return select.POLLIN | (select.POLLOUT if self._unsent else 0)

    @property
    def has_taken(self) -> bool:
        """Whether it has read all of its cell: an interrupt before that would be lost on it."""
        if self._unsent:
            return False
        unread = array.array("i", [0])
        fcntl.ioctl(self.channel, termios.TIOCOUTQ, unread)
        return unread[0] == 0

    def serve(self) -> None:
        """Go on with what the channel allows."""
        self._send()
        self._receive()

    @property
    def reply(self) -> bytes | None:
        """Its reply to the cell, once it is whole."""
        end = self._received.find(_END)
        return bytes(self._received[:end]) if end >= 0 else None

    @property
    def says_too_much(self) -> bool:
        """Whether it sent more than a reply may be."""
        return len(self._received) > MOST_IN_REPLY and self.reply is None

    def end_cell(self) -> None:
        """The cell is over: nothing of it is left here."""
        if self.cell:
            self.cell.input.close()
        self.cell = None
        self._unsent = memoryview(b"")
        self._received.clear()

    def close(self) -> None:
        """It has ended: free what init holds of it."""
        self.end_cell()
        self.channel.close()
        if self.notices and self.notices.listener >= 0:
            os.close(self.notices.listener)
            self.notices.listener = -1

    def _send(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                try:
                    self._unsent = self._unsent[self.channel.send(self._unsent, socket.MSG_NOSIGNAL) :]
                except (BrokenPipeError, ConnectionResetError):  # its end, or its time, says the rest
                    self._unsent = memoryview(b"")

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while not self._gone and len(self._received) <= MOST_IN_REPLY:
                try:
                    part = self.channel.recv(_READ_AT_ONCE)
                except ConnectionResetError:  # it closed its end without reading all of ours
                    part = b""
                self._received += part
                self._gone = not part
                if _END in part:
                    return


@dataclass(slots=True)
class Interpreters:
    """Those of a session by name, and the names of those that have ended and were not reported yet."""

    living: dict[str, Interpreter] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    @property
    def with_cells(self) -> list[Interpreter]:
        """Those in which a cell runs."""
        return [each for each in self.living.values() if each.cell]

    def running(self, identifier: int) -> Interpreter | None:
        """The one in which the cell ``identifier`` runs."""
        return next((each for each in self.with_cells if each.cell and each.cell.order.id == identifier), None)

    def bury(self, interpreter: Interpreter) -> None:
        """Forget one that has ended."""
        del self.living[interpreter.name]
        self.ended.append(interpreter.name)
        interpreter.close()
