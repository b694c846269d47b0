"""One line for each part of an installation: what is installed, how far it is, how long it takes.

On a terminal the line changes in place. Elsewhere (a pipe, a log) a line is written at the begin, at the end and every
15 seconds, without control codes. Standard library only: `make serve` uses it before any package is installed.
"""

import contextlib
import os
import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

_CLEAR = "\r\x1b[K"
_TICK_SECONDS = 1.0
_PLAIN_SECONDS = 15.0
"""The interval of the lines where there is no terminal."""


class Progress:
    """Progress of one task. ``done`` ends it; so does an exception."""

    def __init__(self, begin: str, title: str, stream: TextIO | None = None) -> None:
        """``begin`` is the first line; ``title`` is the prefix of each later one."""
        self._stream = stream or sys.stdout
        self._begin, self._title, self._step = begin, title, ""
        self._live = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._begun = self._reported = time.monotonic()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self._live:
            self._show(self._begin)
        else:
            self._write(f"{self._begin}\n")
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        if error is not None and self._live:
            self._write("\n")

    def __call__(self, step: str) -> None:
        """StepCallback how far it is: shown at once on a terminal, elsewhere when it is time for a line."""
        with self._lock:
            self._step = step
            if self._live:
                self._show(self._line())

    def done(self, outcome: str) -> None:
        """Write the last line: the result and the seconds."""
        self._stop()
        self._write(f"{_CLEAR if self._live else ''}{self._title}: {outcome}, {self._seconds():.0f} s\n")

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            with self._lock:
                if self._live:
                    self._show(self._line())
                elif time.monotonic() - self._reported >= _PLAIN_SECONDS:
                    self._reported = time.monotonic()
                    self._write(f"{self._line()}\n")

    def _stop(self) -> None:
        self._ended.set()
        if self._ticker.ident is not None:
            self._ticker.join()

    def _line(self) -> str:
        what = f"{self._title}: {self._step}" if self._step else self._begin
        return f"{what}, {self._seconds():.0f} s"

    def _seconds(self) -> float:
        return time.monotonic() - self._begun

    def _show(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be erased
        self._write(_CLEAR + (line if len(line) <= width else line[: max(1, width - 1)] + "…"))

    def _write(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # the reader has closed the pipe; the installation goes on
            self._stream.write(text)
            self._stream.flush()
