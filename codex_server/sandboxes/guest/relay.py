"""Carries frames between a container's own streams and its init, and the program's streams among them.

Its init speaks as it would to a server beside it: over a channel that passes descriptors. The relay stands at the other
end of that channel, in a thread of the same process, and turns descriptors into bytes.
INVARIANT: the container's stdin and stdout are this process's alone: no guest holds or can open them.
"""

import contextlib
import errno
import os
import select
import socket
import time
from typing import NoReturn

from ..protocol import frames, stream
from ..protocol.codec import decode, encode
from ..protocol.run import InputPiece, InputTaken, RunOrder

SERVER_IN, SERVER_OUT = 0, 1
MOST_FROM_SERVER = 256 * 2**20
"""Above any execution with its files; the server has bounded it before."""
_PASSED_AT_ONCE = 2**18
_SMALL = 4096
_REST_SECONDS = 0.003
"""After a small chunk of a stream, until the next one: a frame costs the server 9 µs however little it carries, so a
program that writes byte by byte could keep it busy. The first chunk and the last are passed on at once."""


class Relay:
    """One execution's traffic; the process ends with the server's end of the stream, and all of the container."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._frames = stream.Unpacker(MOST_FROM_SERVER)
        self._poll = select.poll()
        self._poll.register(SERVER_IN, select.POLLIN)
        self._poll.register(channel, select.POLLIN)
        self._outputs: dict[int, frames.Kind] = {}
        self._stdin = -1
        self._stdin_left = memoryview(b"")
        self._more_follows = False
        self._resting: set[int] = set()
        self._rest_ends = 0.0

    def run(self) -> NoReturn:
        """Carry until one side is gone; never returns: the process ends with it."""
        try:
            while True:
                for descriptor, events in self._poll.poll(self._rest_left()):
                    self._serve(descriptor, events)
                self._end_rest()
        except (frames.Closed, BrokenPipeError):
            os._exit(0)
        except BaseException as error:  # nothing outlives the process: this is the last moment to report it
            os.write(2, f"the relay failed: {type(error).__name__}: {error}\n".encode())
            os._exit(1)

    def _serve(self, descriptor: int, events: int) -> None:
        if descriptor == SERVER_IN:
            self._receive_from_server()
        elif descriptor == self._channel.fileno():
            self._receive_from_init()
        elif descriptor == self._stdin and events & (select.POLLERR | select.POLLHUP):
            self._close_stdin()  # nobody has its other end any more
        elif descriptor == self._stdin:
            self._write_stdin()
        elif descriptor in self._outputs:
            self._pass_output(descriptor)

    def _receive_from_server(self) -> None:
        data = os.read(SERVER_IN, 2**18)
        if not data:
            raise frames.Closed
        for kind, body, content in self._frames.feed(data):
            if kind is frames.Kind.RUN:
                self._hand_over(body, content)
            elif kind is frames.Kind.STDIN:
                self._add_input(decode(InputPiece, body), content)
            else:
                with contextlib.suppress(frames.Closed):  # init has ended: its result, unread yet, ends this process
                    frames.send(self._channel, kind, body)

    def _hand_over(self, body: frames.Body, content: bytes) -> None:
        """The execution's payload in a memfd; what follows it is the program's stdin."""
        order = decode(RunOrder, body)
        payload_bytes = order.payload_bytes
        payload = os.memfd_create("execution", os.MFD_CLOEXEC)
        with open(payload, "wb") as file:
            file.write(content[:payload_bytes])
            file.flush()
            frames.send(self._channel, frames.Kind.RUN, body, (payload,))
        self._stdin_left = memoryview(content)[payload_bytes:]
        self._more_follows = order.keep_stdin_open
        self._poll.register(self._stdin, select.POLLOUT)

    def _add_input(self, piece: InputPiece, content: bytes) -> None:
        if self._stdin >= 0:  # else the program takes no more, and the server is about to learn it
            self._stdin_left = memoryview(content)
            self._more_follows = not piece.end
            self._poll.modify(self._stdin, select.POLLOUT)

    def _receive_from_init(self) -> None:
        kind, body, descriptors = frames.receive(self._channel)
        if kind is frames.Kind.READY:
            self._adopt(descriptors)
            write(stream.pack(kind, body))
            return
        if kind is frames.Kind.RESULT:
            self._drain()
        write(stream.head(kind, body, sum(os.fstat(descriptor).st_size for descriptor in descriptors)))
        for descriptor in descriptors:
            pass_on(descriptor)

    def _adopt(self, descriptors: list[int]) -> None:
        """The server's ends of the program's streams."""
        self._stdin, *outputs = descriptors
        self._outputs = dict(zip(outputs, (frames.Kind.STDOUT, frames.Kind.STDERR), strict=False))
        if os.isatty(self._stdin):
            os.dup(self._stdin)  # open to the end: whoever closes a terminal's last one hangs up on the program
        for descriptor in (self._stdin, *self._outputs):
            os.set_blocking(descriptor, False)
        for descriptor in self._outputs:
            self._poll.register(descriptor, select.POLLIN)

    def _write_stdin(self) -> None:
        try:
            while self._stdin_left:
                written = os.write(self._stdin, self._stdin_left[: stream.CHUNK])
                self._stdin_left = self._stdin_left[written:]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self._close_stdin()  # the program closed its stdin, or ended, without reading it all
            return
        if self._more_follows:
            self._poll.modify(self._stdin, 0)
            write(stream.pack(frames.Kind.STDIN_TAKEN, encode(InputTaken(closed=False))))
        else:
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._more_follows:
            write(stream.pack(frames.Kind.STDIN_TAKEN, encode(InputTaken(closed=True))))
        self._poll.unregister(self._stdin)
        os.close(self._stdin)
        self._stdin = -1

    def _pass_output(self, descriptor: int) -> bool:
        """Pass one chunk on; False when nothing waits, or nothing can come any more."""
        try:
            chunk = os.read(descriptor, stream.CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            chunk = b""  # nobody has the other end of a terminal any more
        if not chunk:
            self._poll.unregister(descriptor)
            os.close(descriptor)
            del self._outputs[descriptor]
            return False
        write(stream.pack(self._outputs[descriptor], {}, chunk))
        if len(chunk) < _SMALL:
            self._rest(descriptor)
        return True

    def _rest(self, descriptor: int) -> None:
        if not self._resting:
            self._rest_ends = time.monotonic() + _REST_SECONDS
        self._resting.add(descriptor)
        self._poll.modify(descriptor, 0)

    def _rest_left(self) -> float | None:
        """Milliseconds for ``poll``."""
        return max(0.0, self._rest_ends - time.monotonic()) * 1000 if self._resting else None

    def _end_rest(self) -> None:
        if self._resting and time.monotonic() >= self._rest_ends:
            for descriptor in self._resting & self._outputs.keys():
                self._poll.modify(descriptor, select.POLLIN)
            self._resting.clear()

    def _drain(self) -> None:
        """What the pipes still hold: everyone who could write into them is dead."""
        for descriptor in list(self._outputs):
            while self._pass_output(descriptor):
                pass


def pass_on(descriptor: int) -> None:
    """Send a file, a part at a time: all of it at once would be as much memory of the container again."""
    with open(descriptor, "rb", buffering=0) as file:
        file.seek(0)
        while chunk := file.read(_PASSED_AT_ONCE):
            write(chunk)


def write(data: bytes) -> None:
    """Send ``data`` to the server, however long that takes."""
    left = memoryview(data)
    while left:
        left = left[os.write(SERVER_OUT, left) :]
