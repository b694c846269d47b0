"""A stream as a client sees it: the time at which each piece arrived, up to the last event."""

import socket
import time
from typing import Self

from benchmarks.wire import Address, BadResponse

_CHUNK = 2**16
_END = b"\r\n0\r\n\r\n"


class Stream:
    """One call of ``POST /execute/stream`` on a connection of its own. Use it as a context manager."""

    def __init__(self, address: Address, code: str) -> None:
        self._socket: socket.socket = address.connect()
        self._seen = b""
        self._socket.sendall(address.execute("python", code, path="/execute/stream"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read_until(self, wanted: bytes) -> tuple[bytes, int]:
        """What came up to the piece with ``wanted``, and when that came (``time.monotonic_ns``).

        Raises ``BadResponse`` when the stream ends without it.
        """
        while wanted not in self._seen:
            data = b"" if self._seen.endswith(_END) else self._socket.recv(_CHUNK)
            if not data:
                raise BadResponse(f"a stream ended without {wanted!r}: {self._seen[-500:]!r}")
            self._seen += data
        return self._seen, time.monotonic_ns()

    def read_all(self) -> bytes:
        """The whole stream. Raises ``BadResponse`` when it is cut, or when it is none."""
        whole, _ = self.read_until(_END)
        if not whole.startswith(b"HTTP/1.1 200 "):
            raise BadResponse(f"no stream: {whole[:500]!r}")
        return whole
