"""The content of files on its way out of a slot: copied, or moved where nobody needs it there any more."""

import contextlib
import errno
import os
from collections.abc import Iterator

MOVED_AT_ONCE = 256 * 1024


def move(file: int, memory: int, size: int, *, emptying: bool) -> None:
    """Append ``size`` bytes of ``file`` to ``memory``, from the end on, and cut off what has been copied.

    Both are memory of the slot, and a copy beside the original could pass its limit, or would be counted as the
    program's. A file with a second name keeps its content: it is to be found under that one too.
    """
    start = os.lseek(memory, 0, os.SEEK_END)
    os.ftruncate(memory, start + size)
    end = size
    while end:
        begin = max(0, end - MOVED_AT_ONCE)
        for first, last in _data(file, begin, end):
            os.lseek(memory, start + first, os.SEEK_SET)
            _copy(file, memory, first, last)
        if emptying:
            with contextlib.suppress(OSError):  # it was not opened for writing
                os.ftruncate(file, begin)
        end = begin


def _data(file: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts that are not holes: a hole is no memory, and its copy would be."""
    while begin < end:
        try:
            first = os.lseek(file, begin, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the file's end
                return
            if error.errno == errno.EINVAL:  # gVisor knows of no holes
                yield begin, end
                return
            raise
        begin = min(end, _end_of_data(file, first))
        if first < begin:
            yield first, begin


def _end_of_data(file: int, offset: int) -> int:
    """Raises ``EOFError`` where the file has been cut off before it: others write to a folder that sessions share."""
    try:
        return os.lseek(file, offset, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise EOFError("a file became shorter while it was read") from error
        raise


def _copy(file: int, memory: int, offset: int, end: int) -> None:
    while offset < end:
        copied = os.sendfile(memory, file, offset, end - offset)
        if copied == 0:
            raise EOFError("a file became shorter while nothing could run")
        offset += copied
