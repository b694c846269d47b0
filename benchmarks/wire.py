"""The least of HTTP/1.1 that measures a server: requests as ready-made bytes, responses read to their announced end."""

import json
import re
import socket
import time
from dataclasses import dataclass
from typing import Self

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)\r\n", re.IGNORECASE)
_NO_CONTENT = 204
_CHUNK = 2**18
_IDLE_SECONDS = 2.0
RESPONSE_SECONDS = 60.0
"""Longest wait for one response: something is broken when it takes as long."""


class BadResponse(Exception):
    """The server answered something else than what the benchmark asked for; a figure would mean nothing."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens, and the token it takes."""

    host: str
    port: int
    token: str

    def get(self, path: str, *, authorized: bool = False) -> bytes:
        """The bytes of a GET, with the token if it is to be ``authorized``."""
        token = f"Authorization: Bearer {self.token}\r\n" if authorized else ""
        return f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n{token}\r\n".encode("ascii")

    def execute(self, language: str, code: str, *, path: str = "/execute", **fields: object) -> bytes:
        """The bytes of an execution, by ``path``, with further ``fields``."""
        return self.post(path, language=language, code=code, **fields)

    def post(self, path: str, **fields: object) -> bytes:
        """The bytes of a POST of ``fields`` as JSON, with the token."""
        body = json.dumps(fields).encode("ascii")
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body

    def delete(self, path: str) -> bytes:
        """The bytes of a DELETE, with the token."""
        return (f"DELETE {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.token}\r\n\r\n").encode(
            "ascii"
        )

    def connect(self) -> socket.socket:
        """A connection without Nagle's delay."""
        connection = socket.create_connection((self.host, self.port), timeout=RESPONSE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


@dataclass(frozen=True, slots=True)
class Response:
    """A status, a body, and the whole seconds of ``Retry-After`` where there is one."""

    status: int
    body: bytes
    retry_after: int | None = None


class ResponseReader:
    """Puts one response after the other together from what arrives."""

    def __init__(self) -> None:
        self._seen = b""

    def feed(self, data: bytes) -> Response | None:
        """The response that ``data`` completes, if it does. Raises ``BadResponse`` when no length is announced."""
        self._seen += data
        end = self._seen.find(b"\r\n\r\n")
        if end < 0:
            return None
        begin, size = end + 4, self._announced(end)
        if len(self._seen) < begin + size:
            return None
        advice = _RETRY_AFTER.search(self._seen, 0, end + 2)
        retry_after = int(advice[1]) if advice else None
        response = Response(int(self._seen[9:12]), self._seen[begin : begin + size], retry_after)
        self._seen = self._seen[begin + size :]
        return response

    def _announced(self, end: int) -> int:
        """The size of the body whose header stops at ``end``."""
        if int(self._seen[9:12]) == _NO_CONTENT:
            return 0
        length = _LENGTH.search(self._seen, 0, end + 2)
        if length is None:
            raise BadResponse(f"a response without Content-Length: {self._seen[:200]!r}")
        return int(length[1])


class Connection:
    """A kept connection, one request at a time. Use it as a context manager."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._connect()

    def _connect(self) -> None:
        self._socket = self.address.connect()
        self._reader = ResponseReader()
        self._used_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def freshen(self) -> None:
        """Connect anew when nothing was asked for a while: servers close idle connections."""
        if time.monotonic() - self._used_at > _IDLE_SECONDS:
            self._socket.close()
            self._connect()

    def exchange(self, request: bytes) -> Response:
        """Send ``request`` and read its response. Raises ``BadResponse`` when the server hangs up."""
        self.freshen()
        self._used_at = time.monotonic()
        self._socket.sendall(request)
        while True:
            data = self._socket.recv(_CHUNK)
            if not data:
                raise BadResponse("the server closed the connection instead of responding")
            if response := self._reader.feed(data):
                return response

    def timed(self, request: bytes, wanted: bytes) -> float:
        """Seconds from the first byte out to the last byte in. Raises ``BadResponse`` unless ``wanted`` is in it."""
        self.freshen()
        began = time.perf_counter()
        response = self.exchange(request)
        took = time.perf_counter() - began
        if response.status != 200 or wanted not in response.body:
            raise BadResponse(f"HTTP {response.status}, without {wanted!r}: {response.body[:500]!r}")
        return took
