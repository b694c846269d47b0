"""A frame socket in the event loop."""

import asyncio
import contextlib
import os
import socket

from codex_server.sandboxes.arming import is_silent
from codex_server.sandboxes.protocol import frames

Frame = tuple[frames.Kind, frames.Body, list[int]]


class Channel:
    """The server's end of a frame socket; closing it ends the guest side."""

    def __init__(self, endpoint: socket.socket) -> None:
        endpoint.setblocking(False)
        self._socket = endpoint

    def send(self, kind: frames.Kind, body: frames.Body, descriptors: tuple[int, ...] = ()) -> None:
        """Send one frame at once. Raises ``frames.Closed``; ``BlockingIOError`` when the guest side does not read."""
        frames.send(self._socket, kind, body, descriptors)

    async def receive(self) -> Frame:
        """The next frame; the caller owns its descriptors. Raises ``frames.Closed`` or ``frames.BadFrame``."""
        while True:
            await _readable(self._socket.fileno())  # first: whoever asks has just sent what is to be replied to
            with contextlib.suppress(BlockingIOError):
                return frames.receive(self._socket)

    def is_silent(self) -> bool:
        """Whether nothing waits to be read, not even the other side's end."""
        return is_silent(self._socket)

    def close(self) -> None:
        """Close; safe to call twice."""
        self._socket.close()


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def wait_for_exit(pidfd: int, seconds: float) -> bool:
    """Whether the process behind ``pidfd`` ended within ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            await _readable(pidfd)
    except TimeoutError:
        return False
    return True


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def close_all(descriptors: list[int]) -> None:
    """Close every descriptor of a frame that nobody wants."""
    for descriptor in descriptors:
        os.close(descriptor)
