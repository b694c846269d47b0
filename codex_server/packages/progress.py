"""One line for each step of an installation: what is installed, how far it is, how long it takes.

On a terminal the line changes in place; elsewhere (a pipe, a log) there is one when the step begins, one when it ends,
and one now and then between, without control codes. Standard library only: `make serve` shows its first steps with it,
before anything else is there.
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
"""So often a line tells where there is no terminal that something is going on."""


class Progress:
    """A step under way. It ends with ``done``; an error on the way ends its line."""

    def __init__(self, begin: str, title: str, stream: TextIO | None = None) -> None:
        """``begin`` tells what is about to be done, ``title`` stands before how far it is."""
        self._stream = stream or sys.stdout
        self._begin, self._title, self._step = begin, title, ""
        self._live = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._begun = self._told = time.monotonic()
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
        """Tell how far it is: shown at once on a terminal, elsewhere when it is time for a line."""
        with self._lock:
            self._step = step
            if self._live:
                self._show(self._line())

    def done(self, outcome: str) -> None:
        """The last line: what came of it, and the seconds."""
        self._stop()
        self._write(f"{_CLEAR if self._live else ''}{self._title}: {outcome}, {self._seconds():.0f} s\n")

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            with self._lock:
                if self._live:
                    self._show(self._line())
                elif time.monotonic() - self._told >= _PLAIN_SECONDS:
                    self._told = time.monotonic()
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
        width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be taken back
        self._write(_CLEAR + (line if len(line) <= width else line[: max(1, width - 1)] + "…"))

    def _write(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # whoever watched has left; the installation goes on
            self._stream.write(text)
            self._stream.flush()
