"""Keeps the head and the tail of a program's output streams in bounded memory."""

import codecs

from codex_server.model import Captured, Stream

_MOST_CONTINUATION_BYTES = 3
"""A UTF-8 character has at most this many bytes after its first."""


class Capture:
    """One stream, of which at most ``limit_bytes`` are kept: half from its head, half from its tail.

    The result depends only on the bytes, not on how they are split into chunks. Memory stays below twice the limit
    (plus the caller's chunk), and each byte is copied a bounded number of times.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._head_size = limit_bytes // 2
        self._tail_size = limit_bytes - self._head_size
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    @property
    def total_bytes(self) -> int:
        """The number of bytes received, kept or not."""
        return self._total

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes of the stream."""
        self._total += len(chunk)
        view = memoryview(chunk)
        missing = self._head_size - len(self._head)
        if missing > 0:
            self._head += view[:missing]
            view = view[missing:]
        self._tail += view[max(0, len(view) - self._tail_size) :]
        if len(self._tail) > 2 * self._tail_size:  # rarely, so that one-byte chunks stay cheap
            del self._tail[: len(self._tail) - self._tail_size]

    def captured(self) -> Captured:
        """Return what was kept as text; invalid UTF-8 becomes U+FFFD."""
        if self._total <= self._limit:
            text = (self._head + self._tail).decode("utf-8", "replace")
            return Captured(text, truncated=False, total_bytes=self._total)
        head = _without_cut_end(bytes(self._head))
        tail = _without_cut_start(bytes(self._tail[len(self._tail) - self._tail_size :]))
        left_out = self._total - len(head) - len(tail)
        text = head.decode("utf-8", "replace") + mark(left_out) + tail.decode("utf-8", "replace")
        return Captured(text, truncated=True, total_bytes=self._total)


def mark(left_out: int) -> str:
    """Return the text between head and tail."""
    return f"\n[... {left_out:,} bytes left out ...]\n"


class Recorder:
    """Both streams of one execution, as the sink that a sandbox writes to.

    Returns False once the program has printed more than ``flood_bytes`` in total: the sandbox then stops it.
    """

    def __init__(self, limit_bytes: int, flood_bytes: int) -> None:
        self._captures = {stream: Capture(limit_bytes) for stream in Stream}
        self._left = flood_bytes

    def __call__(self, stream: Stream, chunk: bytes) -> bool:
        """Add a chunk; an ``OutputSink``."""
        self._captures[stream].feed(chunk)
        self._left -= len(chunk)
        return self._left >= 0

    def captured(self, stream: Stream) -> Captured:
        """Return what was kept of ``stream``."""
        return self._captures[stream].captured()


def _without_cut_end(data: bytes) -> bytes:
    """Return ``data`` without an incomplete character at its end."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    pending, _ = decoder.getstate()
    return data[: len(data) - len(pending)]


def _without_cut_start(data: bytes) -> bytes:
    """Return ``data`` without the rest of a character at its start."""
    start = 0
    while start < min(_MOST_CONTINUATION_BYTES, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]
