"""Frames over a stream of bytes, for where no SEQPACKET socket reaches: the attach stream of a container.

A frame of ``wire`` with its length in front, and beside it up to ``most_content`` raw bytes in place of descriptors.
INVARIANT: the reader trusts nothing: both lengths are checked before a byte of theirs is kept.
"""

import struct
from collections.abc import Iterator

from . import frames

CHUNK = 64 * 1024
"""The most output bytes in one frame."""
_LENGTHS = struct.Struct(">II")
Frame = tuple[frames.Kind, frames.Body, bytes]


def pack(kind: frames.Kind, body: frames.Body, content: bytes = b"") -> bytes:
    """The bytes of a frame with ``content`` beside it."""
    return head(kind, body, len(content)) + content


def head(kind: frames.Kind, body: frames.Body, content_length: int) -> bytes:
    """The bytes of a frame up to its content, which must follow."""
    frame = frames.encode(kind, body)
    return _LENGTHS.pack(len(frame), content_length) + frame


class Unpacker:
    """Finds the frames in bytes that come in pieces."""

    def __init__(self, most_content: int) -> None:
        self._most_content = most_content
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Every frame that ``data`` completes. Raises ``frames.BadFrame``."""
        self._bytes += data
        while len(self._bytes) >= _LENGTHS.size:
            frame_length, content_length = _LENGTHS.unpack_from(self._bytes)
            if frame_length > frames.MAX_FRAME or content_length > self._most_content:
                raise frames.BadFrame(f"a frame of {frame_length} bytes with {content_length} beside it")
            start = _LENGTHS.size + frame_length
            if len(self._bytes) < start + content_length:
                return
            kind, body = frames.decode(bytes(self._bytes[_LENGTHS.size : start]))
            content = bytes(self._bytes[start : start + content_length])
            del self._bytes[: start + content_length]
            yield kind, body, content
