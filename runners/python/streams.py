"""The standard streams of a program, as python3 opens them on pipes."""

import sys
from io import TextIOWrapper
from typing import Any


def open_standard(unbuffered: bool) -> None:
    """Standard streams as python3 opens them on pipes, but a line leaves as soon as it ends.

    A program that is killed has then not lost what it printed; the price is 1.3 µs a line.
    """
    lines = not unbuffered
    sys.stdin = sys.__stdin__ = _open_stream(0, "r", "<stdin>", "surrogateescape", line_buffering=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _open_stream(  # type: ignore[misc]
        1, "w", "<stdout>", "surrogateescape", line_buffering=lines, write_through=unbuffered
    )
    sys.stderr = sys.__stderr__ = _open_stream(  # type: ignore[misc]
        2, "w", "<stderr>", "backslashreplace", line_buffering=lines, write_through=unbuffered
    )


def _open_stream(
    fd: int, mode: str, name: str, errors: str, *, line_buffering: bool, write_through: bool = False
) -> TextIOWrapper:
    buffer: Any = open(fd, mode + "b", 0 if write_through else -1, closefd=False)  # noqa: SIM115
    getattr(buffer, "raw", buffer).name = name
    stream = TextIOWrapper(buffer, "utf-8", errors, "\n", line_buffering, write_through)
    stream.mode = mode  # type: ignore[misc]
    return stream
