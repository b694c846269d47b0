"""Reading requests from a connection: uvicorn's parser, with a time limit and a size limit for each header."""

import asyncio
from abc import abstractmethod
from enum import Enum

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from codex_server.api.framing import HeadRefused, checked_target, head_without_offer
from codex_server.units import format_size

MAX_HEADER_BYTES = 64 * 2**10
_PREFACE = "PRI/Upgrade"
"""In the parser's words: the client begins with HTTP/2."""
_TLS = b"\x16"
"""How a TLS client begins."""


class _AnyLength(int):
    """What uvicorn counts down by, where no length was announced: it stays 0, and nothing is longer."""

    def __lt__(self, other: int) -> bool:
        return False

    def __sub__(self, other: int) -> "_AnyLength":
        return self


class Part(Enum):
    """What of a request comes next."""

    NOTHING = "nothing"
    """Between two requests."""
    HEAD = "head"
    BODY = "body"


class RequestReader(HttpToolsProtocol):
    """uvicorn's protocol as far as it reads; what cannot be read is raised as ``HeadRefused``.

    INVARIANT: no connection is held for longer than ``receive_seconds`` by a client that does not finish its header.
    """

    receive_seconds: float = 20.0
    _part = Part.NOTHING
    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _offered: bytes | None = None
    """The head of a request that offers another protocol, without the offer."""

    @abstractmethod
    def _header_is_late(self) -> None:
        """End a connection whose header did not come in time."""

    def on_message_begin(self) -> None:
        """A header begins."""
        self._header_bytes, self._part = 0, Part.HEAD
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a field. One that comes after the body is no part of the request that was judged by its header."""
        self._count(len(name) + len(value) + 4)
        if self._part is Part.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The header is here; how long the body may take is for whoever reads it."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self.url = checked_target(method, self.url, version, self.headers)
        if self.parser.should_upgrade() and not self._should_upgrade():
            self._offered = head_without_offer(method, self.url, version, self.headers)
            return
        if version == "1.0":
            self.expect_100_continue = False  # a client of that version would take it for the response
        self._expect_no_more()
        self._part = Part.BODY
        super().on_headers_complete()
        if version == "1.0":  # it knows no chunks: a response without a length ends with the connection
            self.cycle.chunked_encoding, self.cycle.expected_content_length = False, _AnyLength()

    def on_message_complete(self) -> None:
        """The body is here, unless the request is read again without its offer."""
        if self._offered is None:
            self._part = Part.NOTHING
            super().on_message_complete()

    def _read(self, data: bytes) -> None:
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            raise _unreadable(error, data) from error

    def _should_upgrade(self) -> bool:
        # Whoever sends a body wants it read, whatever else is offered.
        return bool(self.parser.get_method() == b"GET" and super()._should_upgrade())

    def _feed(self, data: bytes | memoryview) -> None:
        """Have ``data`` parsed. An offer to speak another protocol makes the parser stop: a new one reads on."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                if self._offered is None:
                    self.handle_websocket_upgrade()
                    return
                head, self._offered = self._offered, None
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                self.parser.feed_data(head)
                data = memoryview(data)[offer.args[0] :]
            except httptools.HttpParserCallbackError as error:
                raise (error.__context__ if isinstance(error.__context__, HeadRefused) else error) from None

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            raise HeadRefused(431, f"the header is above {format_size(MAX_HEADER_BYTES)}; send fewer or shorter fields")

    def _expect_header(self) -> None:
        self._expect_no_more()
        self._deadline = self.loop.call_later(self.receive_seconds, self._header_is_late)

    def _expect_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _unreadable(error: Exception, data: bytes) -> HeadRefused:
    status, why = 400, f"the request is not HTTP/1.1: {str(error).removesuffix('.')}"
    if _PREFACE in str(error):
        status, why = 505, "this server does not speak HTTP/2"
    elif isinstance(error, httptools.HttpParserInvalidMethodError):
        why = "the request begins with no known method; methods are in capitals"
        if data.startswith(_TLS):
            why = "this is TLS, and the server speaks plain HTTP: call http://, or a reverse proxy with https://"
    return HeadRefused(status, f"{why}; send an HTTP/1.1 request")
