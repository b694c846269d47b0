"""The relay of a session, in a process of its own: a test is the server on one side, and the init on the other."""

import os
import socket
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Any

import pytest

from codex_server.sandboxes.protocol import frames, stream
from codex_server.sandboxes.protocol.codec import encode
from codex_server.sandboxes.protocol.session import (
    CellInput,
    CellOrder,
    CellPiece,
    CellReport,
    CellStop,
    CellTaken,
    InterpreterReady,
    Keys,
    KeysTaken,
    OutputOf,
    Window,
)
from codex_server.sandboxes.protocol.stdio import TerminalSize

pytestmark = pytest.mark.unprivileged

RELAY = """
import socket, sys
from codex_server.sandboxes.guest.session_relay import SessionRelay
SessionRelay(socket.socket(fileno=int(sys.argv[1]))).run()
"""
ALL_OUTPUT = 50_000


def order(identifier: int, interpreter: str = "python") -> dict[str, Any]:
    return encode(CellOrder(identifier, interpreter, 1, 0, 4, 1.0, 1, 0, 0, collect=False, open_stdin=True))


def report(identifier: int, ended: tuple[str, ...] = ()) -> dict[str, Any]:
    return encode(CellReport(identifier, None, 2, None, None, 0.1, 0.1, 1, 0, ended, (), (), 0))


class Between:
    """A session's relay and everybody around it."""

    def __init__(self) -> None:
        self.init, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.init.settimeout(30)
        command = [sys.executable, "-c", RELAY, str(theirs.fileno())]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[theirs.fileno()], bufsize=0
        )
        theirs.close()
        self._frames = stream.Unpacker(2**24)
        self._received: list[stream.Frame] = []
        self.ends: set[int] = set()

    def send(self, kind: frames.Kind, body: dict[str, Any], content: bytes = b"") -> None:
        """As the server."""
        assert self.process.stdin
        self.process.stdin.write(stream.pack(kind, body, content))

    def receive(self) -> stream.Frame:
        """As the server."""
        assert self.process.stdout
        while not self._received:
            data = self.process.stdout.read(2**16)
            assert data, f"the relay ended with {self.process.wait(30)}"
            self._received += self._frames.feed(data)
        return self._received.pop(0)

    def adopt(self, name: str = "python") -> tuple[int, int]:
        """As the init: an interpreter is ready; its ends of its outputs."""
        (out, stdout), (error, stderr) = os.pipe(), os.pipe()
        self.say(frames.Kind.READY, encode(InterpreterReady(name)), out, error)
        self.ends |= {stdout, stderr}
        assert self.receive() == (frames.Kind.READY, {"name": name}, b"")
        return stdout, stderr

    def adopt_terminal(self) -> int:
        """As the init: a shell is ready; its own end of its terminal."""
        server, program = os.openpty()
        tty.setraw(program)
        self.say(frames.Kind.READY, encode(InterpreterReady("shell:main")), server)
        assert self.receive() == (frames.Kind.READY, {"name": "shell:main"}, b"")
        return program

    def begin(self, identifier: int = 1, interpreter: str = "python") -> bytes:
        """A cell is handed over: what the init finds in its memfd."""
        self.send(frames.Kind.CELL, order(identifier, interpreter), b"code")
        kind, body, (memfd,) = frames.receive(self.init)
        assert (kind, body) == (frames.Kind.CELL, order(identifier, interpreter))
        with open(memfd, "rb") as file:
            file.seek(0)
            return file.read()

    def say(self, kind: frames.Kind, body: dict[str, Any], *descriptors: int) -> None:
        """As the init, which keeps none of what it passes."""
        frames.send(self.init, kind, body, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)

    def end(self, identifier: int = 1, ended: tuple[str, ...] = (), content: bytes = b"{}") -> None:
        """As the init: the cell has ended."""
        memfd = os.memfd_create("content")
        os.write(memfd, content)
        self.say(frames.Kind.CELL_END, report(identifier, ended), memfd)

    def until_end(self) -> list[stream.Frame]:
        """What comes to the server up to a cell's end, with that."""
        found = [self.receive()]
        while found[-1][0] is not frames.Kind.CELL_END:
            found.append(self.receive())
        return found

    def input(self, identifier: int = 1) -> int:
        """As the init: the cell has opened its standard input, which is returned."""
        reader, writer = os.pipe()
        self.ends.add(reader)
        self.say(frames.Kind.CELL_INPUT, encode(CellInput(identifier)), writer)
        assert self.receive() == (frames.Kind.CELL_INPUT, {"id": identifier}, b"")
        return reader

    def leave(self) -> None:
        self.process.kill()
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()
        self.init.close()
        for end in self.ends:
            os.close(end)


@pytest.fixture
def between() -> Iterator[Between]:
    between = Between()
    pidfd = os.pidfd_open(os.getpid())
    between.say(frames.Kind.READY, {}, pidfd)
    assert between.receive() == (frames.Kind.READY, {}, b"")
    yield between
    between.leave()


def test_a_cell_is_handed_over_in_a_memfd(between: Between) -> None:
    assert between.begin() == b"code"


def test_an_order_goes_to_the_init_as_it_is_and_a_fault_comes_back(between: Between) -> None:
    between.send(frames.Kind.CELL_STOP, encode(CellStop(3, "interrupt")))
    assert frames.receive(between.init) == (frames.Kind.CELL_STOP, {"id": 3, "how": "interrupt"}, [])
    fault = {"step": "interpreter", "errno": 12, "message": "no memory"}
    between.say(frames.Kind.FAULT, fault)
    assert between.receive() == (frames.Kind.FAULT, fault, b"")


def test_all_that_a_cell_printed_comes_before_its_end_and_names_the_interpreter(between: Between) -> None:
    stdout, stderr = between.adopt()
    between.begin()
    os.write(stdout, b"o" * ALL_OUTPUT)
    os.write(stderr, b"error")
    between.end(content=b'{"exit_code": 0}')
    *outputs, last = between.until_end()
    assert {kind: body for kind, body, _ in outputs} == dict.fromkeys(
        (frames.Kind.STDOUT, frames.Kind.STDERR), encode(OutputOf("python"))
    )
    assert sum(len(content) for kind, _, content in outputs if kind is frames.Kind.STDOUT) == ALL_OUTPUT
    assert last == (frames.Kind.CELL_END, report(1), b'{"exit_code": 0}')


def test_what_is_printed_between_cells_waits_for_the_next_one(between: Between) -> None:
    stdout, _ = between.adopt()
    os.write(stdout, b"early")
    between.say(frames.Kind.FAULT, {})
    assert between.receive()[0] is frames.Kind.FAULT
    between.begin()
    assert between.receive() == (frames.Kind.STDOUT, {"name": "python"}, b"early")


def test_an_operation_on_files_has_its_own_output_alone(between: Between) -> None:
    stdout, _ = between.adopt()
    files, _ = between.adopt("files")
    os.write(stdout, b"a cell's")
    os.write(files, b"content")
    between.begin(1, "files")
    between.end(1)
    assert [(body, content) for _, body, content in between.until_end()[:-1]] == [({"name": "files"}, b"content")]
    between.begin(2)
    assert between.receive() == (frames.Kind.STDOUT, {"name": "python"}, b"a cell's")


def test_an_interpreter_that_has_ended_is_forgotten_once_its_last_words_are_passed(between: Between) -> None:
    stdout, _ = between.adopt()
    between.begin()
    os.write(stdout, b"last")
    between.end(ended=("python",))
    assert between.until_end()[0] == (frames.Kind.STDOUT, {"name": "python"}, b"last")
    with pytest.raises(BrokenPipeError):
        os.write(stdout, b"x")
    again, _ = between.adopt()
    between.begin(2)
    os.write(again, b"new")
    assert between.receive() == (frames.Kind.STDOUT, {"name": "python"}, b"new")


def test_an_interpreter_that_closes_its_outputs_leaves_the_relay_at_work(between: Between) -> None:
    for end in between.adopt():
        between.ends.remove(end)
        os.close(end)
    between.begin()
    between.end()
    assert between.until_end()[-1][0] is frames.Kind.CELL_END
    assert between.begin(2) == b"code"


def test_input_comes_piece_by_piece_each_once_the_one_before_was_taken(between: Between) -> None:
    between.begin()
    reader = between.input()
    between.send(frames.Kind.STDIN, encode(CellPiece(1, end=False)), b"one")
    assert between.receive() == (frames.Kind.STDIN_TAKEN, encode(CellTaken(1, closed=False)), b"")
    assert os.read(reader, 100) == b"one"
    between.send(frames.Kind.STDIN, encode(CellPiece(1, end=True)), b"two")
    assert os.read(reader, 100) + os.read(reader, 100) == b"two"


def test_a_piece_that_does_not_fit_is_taken_as_it_is_read(between: Between) -> None:
    between.begin()
    reader, most = between.input(), stream.CHUNK * 3
    between.send(frames.Kind.STDIN, encode(CellPiece(1, end=True)), b"z" * most)
    got = b""
    while part := os.read(reader, 2**16):
        got += part
    assert len(got) == most


def test_a_cell_that_closes_its_input_is_reported_to_take_no_more(between: Between) -> None:
    between.begin()
    reader = between.input()
    between.ends.remove(reader)
    os.close(reader)
    assert between.receive() == (frames.Kind.STDIN_TAKEN, encode(CellTaken(1, closed=True)), b"")


def test_the_end_of_a_cell_is_the_end_of_its_input(between: Between) -> None:
    between.begin()
    reader = between.input()
    between.end()
    between.until_end()
    assert os.read(reader, 1) == b""
    between.send(frames.Kind.STDIN, encode(CellPiece(1, end=False)), b"late")
    assert between.begin(2) == b"code"


def test_it_ends_with_the_server(between: Between) -> None:
    assert between.process.stdin
    between.process.stdin.close()
    assert between.process.wait(30) == 0


def test_keys_reach_a_shells_terminal_and_what_appears_comes_before_its_prompt(between: Between) -> None:
    program = between.adopt_terminal()
    between.ends.add(program)
    between.send(frames.Kind.KEYS, encode(Keys("shell:main")), b"ls\r")
    assert between.receive() == (frames.Kind.KEYS_TAKEN, encode(KeysTaken("shell:main", closed=False)), b"")
    assert os.read(program, 100) == b"ls\r"
    between.begin(1, "shell:main")
    os.write(program, b"a.txt")
    between.end()
    kinds = [(kind, content) for kind, _, content in between.until_end()]
    assert kinds == [(frames.Kind.STDOUT, b"a.txt"), (frames.Kind.CELL_END, b"{}")]


def test_the_window_of_a_shell_changes_its_size(between: Between) -> None:
    program = between.adopt_terminal()
    between.ends.add(program)
    between.send(frames.Kind.WINDOW, encode(Window("shell:main", TerminalSize(30, 90))))
    between.send(frames.Kind.KEYS, encode(Keys("shell:main")), b"x")  # the answer to it comes after the change
    assert between.receive()[0] is frames.Kind.KEYS_TAKEN
    assert termios.tcgetwinsize(program) == (30, 90)


def test_a_shell_whose_terminal_nobody_has_any_more_takes_no_keys_and_leaves_the_relay_at_work(
    between: Between,
) -> None:
    os.close(between.adopt_terminal())
    assert between.receive() == (frames.Kind.KEYS_TAKEN, encode(KeysTaken("shell:main", closed=True)), b"")
    between.begin(1, "shell:main")
    between.end(ended=("shell:main",))
    assert between.until_end()[-1][1]["ended"] == ["shell:main"]
    os.close(between.adopt_terminal())
    assert between.receive()[0] is frames.Kind.KEYS_TAKEN
