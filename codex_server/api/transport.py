"""The client's side of a connection as uvicorn sees it: its end is ours to arrange, and a client's leaving to find out.

A server that closes a connection while the client still sends makes the client's kernel throw away the response. So
``close`` only notifies the protocol, which closes when the client is done, or has had its time.
"""

import asyncio
import select
from collections.abc import Callable, Iterable
from typing import Any

FLUSH_SECONDS = 60.0
"""How long a client may leave a response unread that its connection waits to send."""
_FIRST_LOOK_SECONDS, _MOST_LOOK_SECONDS = 0.01, 1.0
_EVERY_RESPONSE = b"HTTP/1.1 "


class ClientTransport(asyncio.Transport):
    """Passes everything on to ``real`` but ``close``, which calls ``on_close`` the first time."""

    def __init__(self, real: asyncio.Transport, loop: asyncio.AbstractEventLoop, on_close: Callable[[], None]) -> None:
        super().__init__()
        self._real, self._loop, self._on_close = real, loop, on_close
        self._sent_ahead = 0
        self._watch: asyncio.TimerHandle | None = None
        self._impatience: asyncio.TimerHandle | None = None
        self.ended = False
        """Whether the last of what the client gets was written."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the real one's."""
        return self._real.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; after the end nothing is sent."""
        if self.ended:
            return
        if self._sent_ahead:
            data, self._sent_ahead = bytes(data)[self._sent_ahead :], 0
        self._real.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send these."""
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        """How many bytes the client has not taken."""
        return self._real.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._real.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._real.resume_reading()

    def is_closing(self) -> bool:
        """Whether nothing more can be said."""
        return self.ended or self._real.is_closing()

    def close(self) -> None:
        """Let the protocol arrange the end."""
        if not self.ended:
            self.ended = True
            self._on_close()

    def half_close(self) -> None:
        """Let the client know that nothing more will come; what it sends can still be read."""
        self.ended = True
        if self._real.can_write_eof() and not self._real.is_closing():
            self._real.write_eof()

    def hang_up(self) -> None:
        """Close in earnest; the rest of a response has ``FLUSH_SECONDS`` to leave."""
        self.ended = True
        self._real.close()
        if self._real.get_write_buffer_size():
            self.be_impatient()

    def abort(self) -> None:
        """Close at once, whatever is on its way."""
        self.ended = True
        self._real.abort()

    def be_impatient(self) -> None:
        """Close in ``FLUSH_SECONDS``, unless ``be_patient`` is called."""
        self.be_patient()
        self._impatience = self._loop.call_later(FLUSH_SECONDS, self.abort)

    def be_patient(self) -> None:
        """Wait for the client again."""
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def watch(self, *, silent: bool) -> None:
        """Find out whether a client that sends no more still listens, and abort when it does not.

        The kernel reports both in the same way, until something is sent: the reply of somebody who left is a reset.
        Where nothing was sent yet (``silent``) the first bytes of every response are sent ahead, one by one.
        """
        self._look(_FIRST_LOOK_SECONDS, silent=silent)

    def lost(self) -> None:
        """The connection is gone: wait for nothing more."""
        self.ended = True
        self.be_patient()
        if self._watch is not None:
            self._watch.cancel()

    def _look(self, seconds: float, *, silent: bool) -> None:
        if _is_reset(self._real):
            self.abort()
            return
        silent = silent and self._sent_ahead < len(_EVERY_RESPONSE) and not self.ended
        if silent:
            self._real.write(_EVERY_RESPONSE[self._sent_ahead : self._sent_ahead + 1])
            self._sent_ahead += 1
        again = min(2 * seconds, _MOST_LOOK_SECONDS)
        self._watch = self._loop.call_later(seconds, lambda: self._look(again, silent=silent and self._sent_ahead > 0))


def _is_reset(transport: asyncio.Transport) -> bool:
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), 0)  # reports POLLERR and POLLHUP alone: both directions are closed
    return bool(poll.poll(0))


class Linger:
    """Waits while a client sends what nobody reads, and calls ``end``: after ``seconds``, or ``silence`` of them."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, silence: float, end: Callable[[], None]
    ) -> None:
        self._loop, self._silence, self._end = loop, silence, end
        self._received = loop.time()
        self._until = self._received + seconds
        self._timer = loop.call_later(min(seconds, silence), self._look)

    def received(self) -> None:
        """Something came."""
        self._received = self._loop.time()

    def hurry(self, seconds: float) -> None:
        """End within ``seconds``."""
        self._until = min(self._until, self._loop.time() + seconds)
        self._timer.cancel()
        self._look()

    def stop(self) -> None:
        """Wait no more, and end nothing."""
        self._timer.cancel()

    def _look(self) -> None:
        end = min(self._until, self._received + self._silence)
        if self._loop.time() >= end:
            self._end()
        else:
            self._timer = self._loop.call_at(end, self._look)
