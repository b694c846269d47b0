"""Carries the frames of a session between its container's own streams and its init, and its programs' output and input.

Like ``relay.py`` it stands at the other end of init's channel, in a thread of the same process.
INVARIANT: init forks its interpreters while this thread runs, and that is safe: a child has only the thread that
forked, and this one shares no lock with it but Python's own and the C library's, which are both made anew in a child.
It imports nothing once it runs, and logs nothing. A child closes every descriptor of the relay (``worker.main``).
"""

import array
import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import termios
from typing import NoReturn

from ..protocol import frames, stream
from ..protocol.codec import decode, encode
from ..protocol.session import (
    FILES,
    CellInput,
    CellOrder,
    CellPiece,
    CellReport,
    CellTaken,
    InterpreterReady,
    Keys,
    KeysTaken,
    OutputOf,
    Window,
)
from . import relay

_OUTPUTS = (frames.Kind.STDOUT, frames.Kind.STDERR)
_MOST_IN_TERMINAL = 2**20
"""The most that is passed on of a terminal at a cell's end: the kernel keeps far less, unless somebody still writes."""
Reader = int | str
"""Who is given input: a cell, by its id, or a shell at its terminal, by its name."""


class SessionRelay:
    """One session's traffic; the process ends with the server's end of the stream, and all of the container."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._frames = stream.Unpacker(relay.MOST_FROM_SERVER)
        self._poll = select.poll()
        self._poll.register(relay.SERVER_IN, select.POLLIN)
        self._poll.register(channel, select.POLLIN)
        self._armed = False
        self._outputs: dict[int, tuple[frames.Kind, str]] = {}
        self._listening: set[int] = set()
        self._running: dict[int, str] = {}
        self._inputs: dict[Reader, int] = {}
        self._pieces: dict[Reader, tuple[bool, memoryview]] = {}

    def run(self) -> NoReturn:
        """Carry until one side is gone; never returns: the process ends with it."""
        try:
            while True:
                for descriptor, events in self._poll.poll():
                    self._serve(descriptor, events)
        except (frames.Closed, BrokenPipeError):
            os._exit(0)
        except BaseException as error:  # nothing outlives the process: this is the last moment to report it
            os.write(2, f"the relay failed: {type(error).__name__}: {error}\n".encode())
            os._exit(1)

    def _serve(self, descriptor: int, events: int) -> None:
        if descriptor == relay.SERVER_IN:
            self._receive_from_server()
        elif descriptor == self._channel.fileno():
            self._receive_from_init()
        elif descriptor in self._listening:
            self._pass_output(descriptor)
        elif descriptor in self._inputs.values():
            self._serve_input(next(reader for reader, end in self._inputs.items() if end == descriptor), events)

    # --- from the server ---

    def _receive_from_server(self) -> None:
        data = os.read(relay.SERVER_IN, 2**18)
        if not data:
            raise frames.Closed
        for kind, body, content in self._frames.feed(data):
            if kind is frames.Kind.CELL:
                self._hand_over(body, content)
            elif kind is frames.Kind.STDIN:
                piece = decode(CellPiece, body)
                self._add_input(piece.id, content, end=piece.end)
            elif kind is frames.Kind.KEYS:
                self._add_input(decode(Keys, body).name, content, end=False)
            elif kind is frames.Kind.WINDOW:
                self._resize(decode(Window, body))
            else:
                frames.send(self._channel, kind, body)

    def _hand_over(self, body: frames.Body, content: bytes) -> None:
        """A cell with its payload in a memfd. From here on what its interpreter prints is passed on."""
        order = decode(CellOrder, body)
        self._running[order.id] = order.interpreter
        self._listen()
        payload = os.memfd_create("cell", os.MFD_CLOEXEC)
        with open(payload, "wb") as file:
            file.write(content)
            file.flush()
            frames.send(self._channel, frames.Kind.CELL, body, (payload,))

    def _add_input(self, reader: Reader, content: bytes, *, end: bool) -> None:
        if reader in self._inputs:  # else it has ended, or reads no more, and the server is about to learn it
            self._pieces[reader] = end, memoryview(content)
            self._poll.modify(self._inputs[reader], select.POLLOUT)

    def _resize(self, window: Window) -> None:
        if window.name in self._inputs:
            size = struct.pack("4H", window.size.rows, window.size.columns, 0, 0)
            fcntl.ioctl(self._inputs[window.name], termios.TIOCSWINSZ, size)

    # --- from init ---

    def _receive_from_init(self) -> None:
        kind, body, descriptors = frames.receive(self._channel)
        if kind is frames.Kind.READY and self._armed:
            self._adopt(decode(InterpreterReady, body).name, descriptors)
            relay.write(stream.pack(kind, body))
        elif kind is frames.Kind.CELL_INPUT and descriptors:
            self._open_input(decode(CellInput, body).id, descriptors[0])
            relay.write(stream.pack(kind, body))
        elif kind is frames.Kind.CELL_END:
            self._end_cell(decode(CellReport, body), body, descriptors)
        else:
            self._armed = self._armed or kind is frames.Kind.READY
            for descriptor in descriptors:
                os.close(descriptor)
            relay.write(stream.pack(kind, body))

    def _adopt(self, name: str, descriptors: list[int]) -> None:
        """The server's ends of an interpreter's outputs, or that of a shell's terminal."""
        if len(descriptors) == 1:
            self._open_input(name, os.dup(descriptors[0]))
        for descriptor, kind in zip(descriptors, _OUTPUTS, strict=False):
            os.set_blocking(descriptor, False)
            self._outputs[descriptor] = kind, name
        self._listen()

    def _open_input(self, reader: Reader, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._inputs[reader] = descriptor
        self._poll.register(descriptor, 0)

    def _end_cell(self, report: CellReport, body: frames.Body, descriptors: list[int]) -> None:
        """INVARIANT: what was printed until the cell's end goes before it."""
        for descriptor in list(self._listening):
            self._drain(descriptor)
        self._running.pop(report.id, None)
        self._close_input(report.id)
        for name in report.ended:
            self._close_input(name)
        for descriptor in [each for each, (_, name) in self._outputs.items() if name in report.ended]:
            self._close_output(descriptor)
        self._listen()
        size = sum(os.fstat(descriptor).st_size for descriptor in descriptors)
        relay.write(stream.head(frames.Kind.CELL_END, body, size))
        for descriptor in descriptors:
            relay.pass_on(descriptor)

    # --- outputs ---

    def _listen(self) -> None:
        """Poll the outputs whose bytes belong to a cell that runs: those of files to an operation, all others to cells.

        What is printed before the first cell stays in its pipe until then.
        """
        groups = {name == FILES for name in self._running.values()}
        wanted = {each for each, (_, name) in self._outputs.items() if (name == FILES) in groups}
        for descriptor in wanted - self._listening:
            self._poll.register(descriptor, select.POLLIN)
        for descriptor in self._listening - wanted:
            self._poll.unregister(descriptor)
        self._listening = wanted

    def _pass_output(self, descriptor: int) -> int:
        """Pass one chunk on: its size; 0 when nothing waits, or nothing can come any more."""
        try:
            chunk = os.read(descriptor, stream.CHUNK)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            chunk = b""  # nobody has the other end of a terminal any more
        if not chunk:
            self._close_output(descriptor)
            return 0
        kind, name = self._outputs[descriptor]
        relay.write(stream.pack(kind, encode(OutputOf(name)), chunk))
        return len(chunk)

    def _drain(self, descriptor: int) -> None:
        """What waits there now: somebody may be writing still."""
        left = _MOST_IN_TERMINAL if os.isatty(descriptor) else _waiting(descriptor)
        while left > 0 and (passed := self._pass_output(descriptor)):
            left -= passed

    def _close_output(self, descriptor: int) -> None:
        if descriptor in self._listening:
            self._listening.discard(descriptor)
            self._poll.unregister(descriptor)
        del self._outputs[descriptor]
        os.close(descriptor)

    # --- inputs ---

    def _serve_input(self, reader: Reader, events: int) -> None:
        if events & (select.POLLERR | select.POLLHUP):  # nobody has its other end any more
            self._take_no_more(reader)
            return
        end, left = self._pieces[reader]
        try:
            while left:
                left = left[os.write(self._inputs[reader], left[: stream.CHUNK]) :]
        except BlockingIOError:
            self._pieces[reader] = end, left
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self._take_no_more(reader)
        else:
            del self._pieces[reader]
            if end:
                self._close_input(reader)
            else:
                self._poll.modify(self._inputs[reader], 0)
                _report_taken(reader, closed=False)

    def _take_no_more(self, reader: Reader) -> None:
        self._close_input(reader)
        _report_taken(reader, closed=True)

    def _close_input(self, reader: Reader) -> None:
        self._pieces.pop(reader, None)
        with contextlib.suppress(KeyError):
            descriptor = self._inputs.pop(reader)
            self._poll.unregister(descriptor)
            os.close(descriptor)


def _report_taken(reader: Reader, *, closed: bool) -> None:
    if isinstance(reader, int):
        relay.write(stream.pack(frames.Kind.STDIN_TAKEN, encode(CellTaken(reader, closed))))
    else:
        relay.write(stream.pack(frames.Kind.KEYS_TAKEN, encode(KeysTaken(reader, closed))))


def _waiting(pipe: int) -> int:
    """How many bytes wait in it."""
    found = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, found)
    return found[0]
