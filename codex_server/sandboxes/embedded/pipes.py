"""The server's ends of a guest's streams: read and written without ever blocking, and bounded by the sink."""

import asyncio
import os
from collections.abc import Callable

_CHUNK = 64 * 1024


class OutputPipe:
    """Reads a guest's stream as it comes and hands each chunk on; ``on_chunk`` must not block."""

    def __init__(self, descriptor: int, on_chunk: Callable[[bytes], None]) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._on_chunk = on_chunk
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> bool:
        """Read one chunk; False at the end or when nothing waits."""
        try:
            chunk = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._loop.remove_reader(self._descriptor)
            return False
        self._on_chunk(chunk)
        return True

    def finish(self) -> None:
        """Read what is left (at most what the pipe holds, once every writer is dead), then close."""
        if self._descriptor < 0:
            return
        while self._read():
            pass
        self.close()

    def close(self) -> None:
        """Close; safe to call twice."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class InputPipe:
    """Writes a guest's stdin as fast as the guest reads it, then closes it."""

    def __init__(self, descriptor: int, content: bytes) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._left = memoryview(content)
        self._loop = asyncio.get_running_loop()
        self._write()
        if self._descriptor >= 0:
            self._loop.add_writer(descriptor, self._write)

    def _write(self) -> None:
        try:
            while self._left:
                written = os.write(self._descriptor, self._left[:_CHUNK])
                self._left = self._left[written:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            pass  # the program closed its stdin, or ended, without reading it all
        self.close()

    def close(self) -> None:
        """Close; safe to call twice."""
        if self._descriptor >= 0:
            self._loop.remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
