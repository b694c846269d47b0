"""What is kept of a program's output: the head and the tail of each stream, in bounded memory, whatever arrives."""

import codecs

from codex_server.model import Captured, Stream

_MOST_CONTINUATION_BYTES = 3
"""A UTF-8 character has at most this many bytes after its first."""


class Capture:
    """One stream. At most ``limit_bytes`` of it are kept: the first half and the last half.

    The result depends on the bytes alone, never on the chunks in which they came. Memory stays below twice the limit
    (plus the caller's chunk), and each byte is copied a bounded number of times.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._head_room = limit_bytes // 2
        self._tail_room = limit_bytes - self._head_room
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    @property
    def total_bytes(self) -> int:
        """How many bytes came, kept or not."""
        return self._total

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        self._total += len(chunk)
        view = memoryview(chunk)
        missing = self._head_room - len(self._head)
        if missing > 0:
            self._head += view[:missing]
            view = view[missing:]
        self._tail += view[max(0, len(view) - self._tail_room) :]
        if len(self._tail) > 2 * self._tail_room:  # rarely, so that one-byte chunks stay cheap
            del self._tail[: len(self._tail) - self._tail_room]

    def captured(self) -> Captured:
        """What was kept, as text; bytes that are not UTF-8 are U+FFFD."""
        if self._total <= self._limit:
            text = (self._head + self._tail).decode("utf-8", "replace")
            return Captured(text, truncated=False, total_bytes=self._total)
        head = _without_cut_end(bytes(self._head))
        tail = _without_cut_start(bytes(self._tail[len(self._tail) - self._tail_room :]))
        left_out = self._total - len(head) - len(tail)
        text = head.decode("utf-8", "replace") + mark(left_out) + tail.decode("utf-8", "replace")
        return Captured(text, truncated=True, total_bytes=self._total)


def mark(left_out: int) -> str:
    """What stands between head and tail."""
    return f"\n[... {left_out:,} bytes left out ...]\n"


class Recorder:
    """Both streams of one execution, as the sink that a sandbox writes to.

    Answers False once the program has printed more than ``flood_bytes`` in all: the sandbox then stops it.
    """

    def __init__(self, limit_bytes: int, flood_bytes: int) -> None:
        self._captures = {stream: Capture(limit_bytes) for stream in Stream}
        self._room = flood_bytes

    def __call__(self, stream: Stream, chunk: bytes) -> bool:
        """Take a chunk; an ``OutputSink``."""
        self._captures[stream].feed(chunk)
        self._room -= len(chunk)
        return self._room >= 0

    def captured(self, stream: Stream) -> Captured:
        """What was kept of ``stream``."""
        return self._captures[stream].captured()


def _without_cut_end(data: bytes) -> bytes:
    """``data`` without the beginning of a character whose other bytes were left out."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    pending, _ = decoder.getstate()
    return data[: len(data) - len(pending)]


def _without_cut_start(data: bytes) -> bytes:
    """``data`` without the end of a character whose first byte was left out."""
    start = 0
    while start < min(_MOST_CONTINUATION_BYTES, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]
