"""HTTP on the socket, with patience that ends: uvicorn waits for ever for a header, and takes one of any size.

Pass ``guarded(seconds)`` to ``uvicorn.Config(http=...)``. Refusals at this level are problems too.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from codex_server.api.connections import Connections
from codex_server.api.problems import kind_of_status, problem
from codex_server.units import format_seconds, format_size

MAX_HEADER_BYTES = 64 * 2**10
LINGER_SECONDS = 5.0
"""How long a body may go on arriving, unread, after its request was answered."""


def guarded(receive_seconds: float, connections: Connections | None = None) -> Callable[..., asyncio.Protocol]:
    """A factory of ``GuardedProtocol`` for uvicorn; without ``connections`` there may be any number."""

    def build(*args: Any, **kwargs: Any) -> GuardedProtocol:
        protocol = GuardedProtocol(*args, **kwargs)
        protocol.receive_seconds = receive_seconds
        protocol.known = connections
        return protocol

    return build


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a time limit and a size limit for each header.

    INVARIANT: no connection is held for longer than ``receive_seconds`` by a client that does not finish its header.
    """

    receive_seconds: float = 20.0
    known: Connections | None = None
    _address = ""
    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _message_ended = True
    _refusal: tuple[int, str] | None = None

    @property
    def heard(self) -> bool:
        """Whether the header of a request has come."""
        return self.cycle is not None

    @property
    def idle(self) -> bool:
        """Whether no request is being answered: none has come, or the last one was answered."""
        return self.cycle is None or self.cycle.response_complete

    def close(self) -> None:
        """End the connection."""
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Begin to wait for the first header."""
        super().connection_made(transport)
        _send_at_once(transport)
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if isinstance(peer, tuple) else ""
        if self.known is not None and not self.known.admit(self, self._address):
            self._refuse(503, "too many connections are open, and none of them is idle; close some, or come back later")
            return
        self._expect_by(self.receive_seconds, self._header_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._expect_no_more()
        if self.known is not None:
            self.known.forget(self, self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; bytes between requests begin the wait for a header too, even before they look like one."""
        if self._deadline is None and self._message_ended:
            self._expect_by(self.receive_seconds, self._header_is_late)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A header begins."""
        self._header_bytes, self._message_ended = 0, False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a field."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The header is here; how long the body may take is for whoever reads it."""
        self._expect_no_more()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is here."""
        if self._deadline is not None:  # the answer was sent before: now the connection idles
            self._expect_no_more()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        self._message_ended = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out; a body that nobody reads may not go on for ever."""
        super().on_response_complete()
        if not self._message_ended and not self.transport.is_closing():
            self._expect_by(LINGER_SECONDS, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, or too much of it."""
        status, detail = self._refusal or (400, f"{msg.removesuffix('.')}; send an HTTP/1.1 request")
        self._refuse(status, detail)

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            self._refusal = (431, f"the header is above {format_size(MAX_HEADER_BYTES)}; send fewer or shorter fields")
            raise ValueError("header too large")  # the parser stops, and uvicorn calls `send_400_response`

    def _expect_by(self, seconds: float, otherwise: Callable[[], None]) -> None:
        self._expect_no_more()
        self._deadline = self.loop.call_later(seconds, otherwise)

    def _expect_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _header_is_late(self) -> None:
        if self._message_ended:
            self.transport.close()  # nothing of a request has come: there is nobody to answer
        else:
            self._refuse(
                408, f"the header did not arrive within {format_seconds(self.receive_seconds)}; send it at once"
            )

    def _refuse(self, status: int, detail: str) -> None:
        kind = kind_of_status(status)
        answer = problem(kind.slug, status, kind.title, detail, instance=secrets.token_hex(16))
        fields = [*answer.raw_headers, (b"connection", b"close")]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        reason = kind.title.encode("ascii")
        self.transport.write(b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, reason, head, bytes(answer.body)))
        self.transport.close()


def _send_at_once(transport: asyncio.Transport) -> None:
    """Have the kernel send each write at once.

    asyncio asks for it only where the listener names its protocol, which ``socket.create_server`` does not; uvicorn
    writes head and body apart, so the body would else wait 40 ms for the client to acknowledge the head.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
