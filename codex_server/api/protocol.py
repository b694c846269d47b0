"""HTTP on the socket, with patience that ends: uvicorn waits for ever for a header, and takes one of any size.

Pass ``guarded(seconds)`` to ``uvicorn.Config(http=...)``. Refusals at this level are problems too, and each request
gets one response: the refusal of what cannot be read waits for the responses to what came before it.
"""

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, MutableMapping
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from codex_server.api.connections import Connections
from codex_server.api.framing import HeadRefused
from codex_server.api.problems import kind_of_status, problem
from codex_server.api.request_reader import Part, RequestReader
from codex_server.api.transport import ClientTransport, Linger
from codex_server.units import format_seconds

LINGER_SECONDS = 30.0
"""How long a client may go on sending, unread, after its response was sent."""
SILENCE_SECONDS = 5.0
"""How long it may pause meanwhile."""
_STOPPING_SECONDS = 1.0
"""How long it may go on when the server stops."""
_log = logging.getLogger("codex_server.http")
_HALF_CLOSE = "codex.half_close"


def half_close_callbacks(scope: MutableMapping[str, Any]) -> list[Callable[[], None]]:
    """What is called when the client of the request ``scope`` sends no more: it may have left, and does not say so."""
    callbacks: list[Callable[[], None]] = scope.setdefault("extensions", {}).setdefault(_HALF_CLOSE, [])
    return callbacks


def guarded(receive_seconds: float, connections: Connections | None = None) -> Callable[..., asyncio.Protocol]:
    """A factory of ``GuardedProtocol`` for uvicorn; without ``connections`` there may be any number."""

    def build(*args: Any, **kwargs: Any) -> GuardedProtocol:
        protocol = GuardedProtocol(*args, **kwargs)
        protocol.receive_seconds = receive_seconds
        protocol.known = connections
        return protocol

    return build


class GuardedProtocol(RequestReader):
    """uvicorn's protocol, with limits on what is read and an end that loses no response."""

    known: Connections | None = None
    _address = ""
    _line: ClientTransport
    _linger: Linger | None = None
    _running: RequestResponseCycle | None = None
    """The request whose response is due; ``cycle`` is the newest one, which may have to wait for it."""
    _last_word: tuple[int, str] | None = None
    """A refusal, to be sent once everything before it has its response; nothing is read any more."""
    _half_closed = False

    @property
    def received(self) -> bool:
        """Whether the header of a request has come, or the connection was refused."""
        return self.cycle is not None or self._line.ended

    @property
    def idle(self) -> bool:
        """Whether no response is due: no request has come whole, or the last response was taken."""
        return self._line.ended or not (self._responding or self._line.get_write_buffer_size())

    @property
    def waiting(self) -> bool:
        """Whether the client is awaited: to send the rest of a request's body, or to take a response."""
        if self._responding:
            return self._running is self.cycle and self.cycle.more_body
        return self._line.get_write_buffer_size() > 0

    @property
    def _responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def close(self) -> None:
        """End the connection, for another one's sake."""
        self._line.abort()

    def shutdown(self) -> None:
        """The server stops: end the connection after the responses that are due."""
        if self._linger is not None:
            self._linger.hurry(_STOPPING_SECONDS)
        elif self._responding:
            super().shutdown()
        else:
            self._line.hang_up()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Begin to wait for the first header."""
        self._line = ClientTransport(transport, self.loop, self._end)
        super().connection_made(self._line)
        _send_at_once(transport)
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if isinstance(peer, tuple) else ""
        if self.known is not None and not self.known.admit(self, self._address):
            self._refuse(503, "too many connections are open, and none of them is idle; close some, or come back later")
            return
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more, and let every request know that its client is gone."""
        self._line.lost()
        self._expect_no_more()
        self._stop_lingering()
        if self.known is not None:
            self.known.forget(self, self._address)
        if self._running is not None and not self._running.response_complete:
            self._disconnect(self._running)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio looks at what it returns
        """The client sends no more; whether the connection stays open for the response to what it sent."""
        if self._line.ended or not self._responding or self.cycle.more_body:
            return False
        self._half_closed, self.cycle.keep_alive = True, False
        for notify in half_close_callbacks(cast("MutableMapping[str, Any]", self.scope)):
            notify()
        self._line.watch(silent=self._running is not None and not self._running.response_started)
        return True

    def pause_writing(self) -> None:
        """The client takes nothing: it has some time to go on."""
        self._line.be_impatient()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It goes on."""
        self._line.be_patient()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse; bytes between requests begin the wait for a header too, even before they look like one."""
        if self._linger is not None:
            self._linger.received()
        if self._line.ended or self._last_word is not None:
            return
        self._unset_keepalive_if_required()
        if self._deadline is None and self._part is not Part.BODY and not self._responding:
            self._expect_header()
        try:
            self._read(data)
        except HeadRefused as refusal:
            self._refuse(refusal.status, refusal.detail)

    def on_message_complete(self) -> None:
        """The body is here."""
        if self._offered is None and self._linger is not None:  # the response was sent before: now the connection idles
            self._stop_lingering()
            self._keep_alive()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The response is out; a body that nobody reads may not go on for ever."""
        super().on_response_complete()
        if self._line.is_closing() or self._responding:
            return
        if self._last_word is not None:
            self._refuse(*self._last_word)
        elif self._part is not Part.NOTHING:
            self._unset_keepalive_if_required()
            if self._part is Part.BODY:
                self._linger = Linger(self.loop, LINGER_SECONDS, SILENCE_SECONDS, self._line.hang_up)
            else:
                self._expect_header()
        if self.known is not None:
            self.known.rest(self, self._address)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _stop_lingering(self) -> None:
        if self._linger is not None:
            self._linger.stop()
            self._linger = None

    def _header_is_late(self) -> None:
        if self._part is Part.NOTHING:
            self._line.hang_up()  # nothing of a request has come: nobody waits for a response
        else:
            self._refuse(
                408, f"the header did not arrive within {format_seconds(self.receive_seconds)}; send it at once"
            )

    def _refuse(self, status: int, detail: str) -> None:
        """Refuse what cannot be read, when its turn comes, and read no more."""
        if not self._responding:
            if self._part is Part.BODY:  # its response was sent: what follows is nobody's
                self._line.close()
            else:
                self._say_last(status, detail)
        elif self._part is not Part.BODY:
            self._last_word = (status, detail)
        elif self._running is not None and self._running is not self.cycle:
            self._last_word, self._part = (status, detail), Part.NOTHING
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running
        else:
            begun = self.cycle.response_started
            self._disconnect(self.cycle)
            if begun:
                self._line.close()
            else:
                self._say_last(status, detail)

    def _disconnect(self, cycle: RequestResponseCycle) -> None:
        """Let the request know that nobody waits for its response."""
        cycle.disconnected = True
        cycle.message_event.set()

    def _say_last(self, status: int, detail: str) -> None:
        self._line.write(_refusal(status, detail))
        self._begin_to_linger()

    def _end(self) -> None:
        """Close the connection, at once or when the client has ended too."""
        if self._half_closed or (self._part is Part.NOTHING and not self.pipeline):
            self._expect_no_more()
            self._line.hang_up()
        else:
            self._begin_to_linger()

    def _begin_to_linger(self) -> None:
        self._expect_no_more()
        self._unset_keepalive_if_required()
        self._stop_lingering()
        self._line.half_close()
        self.flow.resume_reading()
        if self.known is not None:
            self.known.linger(self, self._address)
        self._linger = Linger(self.loop, LINGER_SECONDS, SILENCE_SECONDS, self._line.hang_up)


def _send_at_once(transport: asyncio.Transport) -> None:
    """Have the kernel send each write at once.

    asyncio asks for it only where the listener names its protocol, which ``socket.create_server`` does not; uvicorn
    writes head and body apart, so the body would else wait 40 ms for the client to acknowledge the head.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _refusal(status: int, detail: str) -> bytes:
    """A whole response, for a request that no route will see; the log has its id."""
    kind = kind_of_status(status)
    request_id = secrets.token_hex(16)
    _log.info("refused unread", extra={"problem": kind.slug, "status": status, "request_id": request_id})
    headers = {"X-Request-ID": request_id, "Connection": "close"} | ({"Retry-After": "1"} if status == 503 else {})
    response = problem(kind.slug, status, kind.title, detail, instance=request_id, headers=headers)
    head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    reason = kind.title.encode("ascii")
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, reason, head, bytes(response.body))
