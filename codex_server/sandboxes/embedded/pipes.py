"""The server's ends of a guest's streams: read and written without ever blocking, and bounded by the sink."""

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import Callable

from codex_server.sandboxes.stdin import StandardInput

_CHUNK = 64 * 1024
_TERMINAL_BYTES = 64 * 1024
"""More than a terminal can hold: 8 KiB wait for its line discipline, which keeps 4 KiB."""


def _capacity(descriptor: int) -> int:
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    return _TERMINAL_BYTES


class OutputPipe:
    """Reads a guest's stream as it comes and hands each chunk on.

    ``on_chunk`` must not block. Once it says False nothing more is read before ``finish``: a full pipe then holds a
    program that floods, until it is killed.
    """

    def __init__(self, descriptor: int, on_chunk: Callable[[bytes], bool]) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._on_chunk = on_chunk
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> int:
        """Read one chunk; its length, which is 0 at the end or when nothing waits."""
        try:
            chunk = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            chunk = b""  # nobody has the other end of a terminal any more
        if not chunk or not self._on_chunk(chunk):
            self._loop.remove_reader(self._descriptor)
        return len(chunk)

    def drain(self) -> None:
        """Read what waits now.

        INVARIANT: at most what the pipe can hold, and one chunk, is read: a writer that still lives cannot keep the
        server here.
        """
        if self._descriptor < 0:
            return
        left = _capacity(self._descriptor)
        while left > 0 and (length := self._read()):
            left -= length

    def finish(self) -> None:
        """Read what is left, then close."""
        self.drain()
        self.close()

    def close(self) -> None:
        """Close; safe to call twice."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class InputPipe:
    """Writes a guest's stdin as fast as the guest reads it, and closes it at its end."""

    def __init__(self, descriptor: int, source: StandardInput) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._source = source
        self._loop = asyncio.get_running_loop()
        source.read_by(self._write)
        self._write()

    def _write(self) -> None:
        """Write what waits, now and whenever the pipe has room again."""
        try:
            while chunk := self._source.peek(_CHUNK):
                self._source.take(os.write(self._descriptor, chunk))
        except BlockingIOError:
            self._loop.add_writer(self._descriptor, self._write)
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self._source.abandon()  # the program closed its stdin, or ended, without reading it all
        self._loop.remove_writer(self._descriptor)
        if self._source.ended:
            self.close()

    def close(self) -> None:
        """Close; safe to call twice."""
        if self._descriptor >= 0:
            self._source.abandon()
            self._loop.remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
