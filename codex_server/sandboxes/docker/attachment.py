"""The stream between the server and a container's PID 1: the engine's framing around ours.

The engine sends what the container writes in pieces with eight bytes in front: the stream (1 is stdout, 2 is stderr),
three zeros, and the length (big-endian). Ours come on stdout; on stderr PID 1 reports what kept it from working.
"""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import cast

from codex_server.sandboxes.arming import is_silent
from codex_server.sandboxes.protocol import frames, stream

_STDOUT, _STDERR = 1, 2
_HEADER = struct.Struct(">B3xI")
_MOST_IN_PIECE = 2**20
"""The engine reads a container's pipe in pieces of 32 KiB."""
_MOST_ERRORS = 4096
_HIGH_WATER, _LOW_WATER = 64, 16
"""Frames that may wait for their reader before the container has to."""


class Demultiplexer:
    """Takes the engine's framing off. INVARIANT: lengths are checked before anything is kept."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Every piece that ``data`` completes, with its stream's number. Raises ``frames.BadFrame``."""
        self._bytes += data
        while len(self._bytes) >= _HEADER.size:
            number, length = _HEADER.unpack_from(self._bytes)
            if number not in (_STDOUT, _STDERR) or length > _MOST_IN_PIECE:
                raise frames.BadFrame(f"the engine sent {length} bytes of stream {number}")
            end = _HEADER.size + length
            if len(self._bytes) < end:
                return
            piece = bytes(self._bytes[_HEADER.size : end])
            del self._bytes[:end]
            yield number, piece


class Attachment(asyncio.Protocol):
    """Frames to and from one container. ``most_content`` bounds what may come beside a frame; output always fits."""

    def __init__(self, connection: socket.socket, most_content: int) -> None:
        self._connection = connection
        self._pieces = Demultiplexer()
        self._unpacker = stream.Unpacker(max(most_content, stream.CHUNK))
        self._frames: deque[stream.Frame] = deque()
        self._errors = bytearray()
        self._news = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._failure: Exception | None = None

    @classmethod
    async def over(cls, connection: socket.socket, most_content: int) -> "Attachment":
        """Carry frames over ``connection``, which is the attachment's from here on."""
        loop = asyncio.get_running_loop()
        _, attachment = await loop.create_connection(lambda: cls(connection, most_content), sock=connection)
        return attachment

    @property
    def silent(self) -> bool:
        """Whether nothing has come, and it is open: so an armed container is."""
        received = self._failure is not None or bool(self._frames or self._errors)
        return not received and is_silent(self._connection)  # the loop may not have looked yet

    @property
    def errors(self) -> str:
        """What PID 1 wrote to stderr, the beginning of it."""
        return self._errors.decode("utf-8", "replace").strip()

    def send(self, kind: frames.Kind, body: frames.Body, content: bytes = b"") -> None:
        """Send one frame, without waiting. Raises ``frames.Closed`` when the other side is gone."""
        if self._transport is None or self._failure is not None or self._transport.is_closing():
            raise frames.Closed
        self._transport.write(stream.pack(kind, body, content))

    async def receive(self) -> stream.Frame:
        """The next frame. Raises ``frames.Closed`` at the end, ``frames.BadFrame`` for rubbish."""
        while not self._frames:
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()
        frame = self._frames.popleft()
        if len(self._frames) == _LOW_WATER and self._transport:
            self._transport.resume_reading()
        return frame

    def close(self) -> None:
        """Close, at once; safe to call twice. Init, to which the engine reports it, ends with everything around it."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast("asyncio.Transport", transport)  # a stream's is one, uvloop's too, which is no subclass

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        try:
            for number, piece in self._pieces.feed(data):
                if number == _STDOUT:
                    self._frames.extend(self._unpacker.feed(piece))
                else:
                    self._errors += piece[: _MOST_ERRORS - len(self._errors)]
        except frames.BadFrame as error:
            self._end(error)
            self.close()
        self._news.set()
        if len(self._frames) >= _HIGH_WATER and self._transport:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._end(frames.Closed())

    def _end(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._news.set()
