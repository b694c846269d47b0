"""``codex-server attach`` in a real terminal, against the HTTP door with a fake shell behind it."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from codex_server.cli.main import app
from codex_server.errors import InvalidRequest
from tests.cli.desk import SECONDS, TOKEN, Desk
from tests.waiting import until


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Desk() as opened:
        yield opened


class Seat:
    """A terminal, and the command in it."""

    def __init__(self, desk: Desk, *arguments: str) -> None:
        self.desk, (self.master, self.slave) = desk, pty.openpty()
        self.size(30, 100)
        self.before = termios.tcgetattr(self.slave)
        self.shown = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "codex_server", "attach", "--url", desk.url, *arguments],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, env={**os.environ, "CODEX_TOKEN": TOKEN},
            start_new_session=True,
        )  # fmt: skip

    def size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def until_shown(self, text: bytes) -> None:
        while text not in self.shown:
            ready, _, _ = select.select([self.master], [], [], SECONDS)
            assert ready, self.shown
            self.shown += os.read(self.master, 4096)

    def ended(self) -> int:
        """Its exit code; the terminal is as it was."""
        code = self.process.wait(SECONDS)
        assert termios.tcgetattr(self.slave) == self.before
        return code


@contextmanager
def seated(desk: Desk, *arguments: str) -> Iterator[Seat]:
    seat = Seat(desk, *arguments)
    try:
        yield seat
    finally:
        if seat.process.poll() is None:
            seat.process.kill()
            seat.process.wait()
        os.close(seat.master)
        os.close(seat.slave)


def quick(desk: Desk, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--url", desk.url, "--token", TOKEN])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output.strip()


def test_a_person_types_at_a_shell_and_leaves_it_running(desk: Desk) -> None:
    session = quick(desk, "session", "open")
    with seated(desk, session, "main") as seat:
        seat.until_shown(b"Ctrl-] leaves it")
        seat.until_shown(b"$ ")
        seat.type(b"print hello\r")
        seat.until_shown(b"print hello\r\nhello\r\n$ ")
        seat.type("print Zoë\r".encode())
        seat.until_shown("\r\nZoë\r\n$ ".encode())
        seat.type(b"size\r")
        seat.until_shown(b"30 100")
        seat.type(b"wait ever\r")
        seat.until_shown(b"wait ever\r\n")
        seat.type(b"\x03")
        seat.until_shown(b"^C\r\n$ ")
        seat.type(b"\x1d")
        seat.until_shown(b"you left the shell")
        assert seat.ended() == 0
    assert not desk.backend.sessions[0].shells["main"].closed


def test_the_window_is_followed(desk: Desk) -> None:
    session = quick(desk, "session", "open")
    with seated(desk, session) as seat:
        seat.until_shown(b"$ ")
        seat.size(40, 120)
        seat.process.send_signal(signal.SIGWINCH)
        shell = desk.backend.sessions[0].shells["main"]
        assert until(lambda: (shell.size.rows, shell.size.columns) == (40, 120), SECONDS), seat.shown
        seat.type(b"exit\r")
        seat.until_shown(b"the shell has ended")
        assert seat.ended() == 0


def test_a_session_that_ends_is_said_and_the_terminal_is_as_before(desk: Desk) -> None:
    session = quick(desk, "session", "open")
    with seated(desk, session) as seat:
        seat.until_shown(b"$ ")
        quick(desk, "session", "close", session)
        seat.until_shown(b"closed by its caller")
        assert seat.ended() == 1


def test_a_refusal_is_shown_before_the_terminal_changes(desk: Desk) -> None:
    with seated(desk, "ses_none") as seat:
        seat.until_shown(b"no session of yours")
        assert seat.ended() == 1


@pytest.mark.parametrize("command", ["attach", "session attach"])
def test_without_a_terminal_there_is_nothing_to_sit_at(desk: Desk, command: str) -> None:
    with pytest.raises(InvalidRequest, match="needs a terminal"):
        quick(desk, *command.split(), "ses_1")
