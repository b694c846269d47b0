"""``codex-server attach``: sit at a shell of a session, with this terminal as its own."""

import codecs
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from codex_server.cli.session import HERE, SessionArgument, TokenFlag, UrlFlag
from codex_server.errors import CodexError, InvalidRequest

if TYPE_CHECKING:
    from codex_server.cli.connection import Connection

_LEAVE = b"\x1d"
"""Ctrl-]."""
_WAIT_SECONDS = 30
_CHUNK = 4096
_UNSEEN = {"form": "raw", "since": 2**53, "wait_seconds": 0}
"""Of a call that types: what appears is for the one that shows."""


def attach(
    session: SessionArgument,
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="Name of a shell; a new name starts one")] = "main",
    url: UrlFlag = HERE,
    token: TokenFlag = None,
) -> None:
    """Sit at a shell of a session: its screen, your keys. Others can go on using it. Ctrl-] leaves it running."""
    from codex_server.cli.connection import Connection

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidRequest(
            "attach needs a terminal; a program calls POST /sessions/{session_id}/shells/{name} instead"
        )
    path = f"/sessions/{quote(session, safe='')}/shells/{quote(shell, safe='')}"
    seat = _Seat(Connection(url, token), path)
    first = seat.call(resize=_window(), form="raw", since=0)  # a refusal is shown before the terminal changes
    typer.echo(f"codex-server: at shell {shell} of {session}; Ctrl-] leaves it", err=True)
    with _raw_terminal(sys.stdin.fileno()):
        reason = seat.sit(first)
    typer.echo(f"\ncodex-server: {reason}", err=True)


class _Seat:
    """A person at the shell at ``path``: one thread types, the other shows."""

    def __init__(self, connection: "Connection", path: str) -> None:
        self._connection, self._path = connection, path
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = False
        self._reason = "you left the shell; it goes on"
        self._failure: CodexError | None = None
        self._wake_reader, self._wake = os.pipe()

    def call(self, **fields: Any) -> dict[str, Any]:
        """Call the shell."""
        return self._connection.call("POST", self._path, fields)

    def sit(self, first: dict[str, Any]) -> str:
        """Type and show until somebody leaves; why, in a sentence. Raises what the server's refusal is."""
        shows = threading.Thread(target=self._show_all, args=(first,), daemon=True)
        with _window_changes(self._wake):
            shows.start()
            self._type_all(sys.stdin.fileno())
        if self._failure:
            raise self._failure
        return self._reason

    def _type_all(self, keyboard: int) -> None:
        while not self._left:
            ready, _, _ = select.select([keyboard, self._wake_reader], [], [])
            if self._wake_reader in ready:
                os.read(self._wake_reader, _CHUNK)
                if not self._left:
                    self.call(resize=_window(), **_UNSEEN)
            if keyboard in ready:
                self._left = self._type(os.read(keyboard, _CHUNK)) or self._left

    def _type(self, keys: bytes) -> bool:
        """Send what was typed; whether it was the key to leave, or the terminal is gone."""
        sent, leave, _ = keys.partition(_LEAVE)
        if text := self._characters.decode(sent):
            self.call(text=text, **_UNSEEN)
        return bool(leave) or not keys

    def _show_all(self, found: dict[str, Any]) -> None:
        try:
            while not self._left:
                _show(found["output"])
                if found["ended"]:
                    self._reason = "the shell has ended"
                    break
                found = self.call(form="raw", since=found["next"], wait_seconds=_WAIT_SECONDS)
        except CodexError as error:
            self._failure = error
        finally:
            self._left = True
            os.write(self._wake, b"\0")


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _window() -> dict[str, int]:
    rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8)))
    return {"rows": min(500, rows or 24), "columns": min(500, columns or 80)}


@contextmanager
def _raw_terminal(keyboard: int) -> Iterator[None]:
    """Every key as it is, within the context. INVARIANT: the terminal is as before afterwards, whatever happened."""
    before = termios.tcgetattr(keyboard)
    try:
        tty.setraw(keyboard)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextmanager
def _window_changes(wake: int) -> Iterator[None]:
    """Within the context a byte is written to ``wake`` whenever the window has another size.

    By the interpreter's own handler, whichever thread the kernel chose: this one may wait for a key meanwhile.
    """
    os.set_blocking(wake, False)
    before: Callable[..., Any] | int | None = signal.signal(signal.SIGWINCH, lambda *_: None)
    other = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(other)
        signal.signal(signal.SIGWINCH, before)
