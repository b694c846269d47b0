"""The relay, in a process of its own: a test is the server at its stdin and stdout, and the init at its channel."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from codex_server.sandboxes.protocol import frames, stream
from codex_server.sandboxes.protocol.codec import encode
from tests.sandboxes.executions import RUN_ORDER

pytestmark = pytest.mark.unprivileged

RELAY = """
import socket, sys
from codex_server.sandboxes.guest.relay import Relay
Relay(socket.socket(fileno=int(sys.argv[1]))).run()
"""
MIB = 2**20


class Between:
    """A relay and everybody around it; ``stdin``, ``stdout`` and ``stderr`` are the program's."""

    def __init__(self) -> None:
        self.init, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.init.settimeout(30)
        command = [sys.executable, "-c", RELAY, str(theirs.fileno())]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            bufsize=0,
        )
        theirs.close()
        self.stdin, self._stdin_end = os.pipe()
        self._stdout_end, self.stdout = os.pipe()
        self._stderr_end, self.stderr = os.pipe()
        self._open = {self.stdin, self.stdout, self.stderr}
        self._frames = stream.Unpacker(64 * MIB)
        self._received: list[stream.Frame] = []

    def arm(self, *, merged: bool = False) -> None:
        """Say READY, as an init does, with the other ends of the program's streams."""
        ends = (self._stdin_end, self._stdout_end, self._stderr_end)
        frames.send(self.init, frames.Kind.READY, {}, ends[:2] if merged else ends)
        for end in ends:
            os.close(end)
        assert self.receive()[:2] == (frames.Kind.READY, {})

    def send(self, kind: frames.Kind, body: dict[str, Any], content: bytes = b"") -> None:
        """As the server."""
        assert self.process.stdin
        left = memoryview(stream.pack(kind, body, content))
        while left:
            left = left[self.process.stdin.write(left) :]

    def run(self, payload: bytes = b"code", stdin: bytes = b"", *, keep_open: bool = False) -> bytes:
        """Hand an execution over; what the init finds in its memfd."""
        order = encode(replace(RUN_ORDER, payload_bytes=len(payload), keep_stdin_open=keep_open))
        self.send(frames.Kind.RUN, order, payload + stdin)
        kind, body, (memfd,) = frames.receive(self.init)
        assert (kind, body) == (frames.Kind.RUN, order)
        with open(memfd, "rb") as file:
            file.seek(0)
            return file.read()

    def receive(self) -> stream.Frame:
        """The next frame that comes to the server."""
        assert self.process.stdout
        while not self._received:
            data = self.process.stdout.read(2**16)
            assert data, f"the relay ended with {self.process.wait(30)}"
            self._received += self._frames.feed(data)
        return self._received.pop(0)

    def report(self, body: dict[str, Any], *contents: bytes) -> None:
        """As the init."""
        memfds = [os.memfd_create("content") for _ in contents]
        for memfd, content in zip(memfds, contents, strict=True):
            os.write(memfd, content)
        frames.send(self.init, frames.Kind.RESULT, body, tuple(memfds))
        for memfd in memfds:
            os.close(memfd)

    def close(self, end: int) -> None:
        self._open.remove(end)
        os.close(end)

    def leave(self) -> None:
        self.process.kill()
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()
        self.init.close()
        for end in self._open:
            os.close(end)


@pytest.fixture
def between() -> Iterator[Between]:
    between = Between()
    between.arm()
    yield between
    between.leave()


def test_merged_streams_come_as_standard_output():
    between = Between()
    try:
        between.arm(merged=True)
        between.run()
        os.write(between.stdout, b"both")
        assert between.receive() == (frames.Kind.STDOUT, {}, b"both")
    finally:
        between.leave()


def test_a_terminal_takes_what_is_typed_and_is_not_hung_up_when_the_program_closes_it():
    between = Between()
    server, program = os.openpty()
    name = os.ttyname(program)
    try:
        frames.send(between.init, frames.Kind.READY, {}, (server, server))
        os.close(server)
        assert between.receive()[:2] == (frames.Kind.READY, {})
        between.run(stdin=b"typed\n")
        assert os.read(program, 100) == b"typed\n"
        assert between.receive() == (frames.Kind.STDOUT, {}, b"typed\r\n")
        os.close(program)
        between.report({"exit_code": 0})
        assert between.receive()[:2] == (frames.Kind.RESULT, {"exit_code": 0})
        os.close(os.open(name, os.O_RDWR | os.O_NOCTTY))
    finally:
        between.leave()


def read_to_end(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read()


def test_the_payload_comes_to_init_in_a_memfd_and_the_rest_to_the_program(between):
    assert between.run(b"print(1)", b"for the program") == b"print(1)"
    assert read_to_end(between.stdin) == b"for the program"


TAKEN = (frames.Kind.STDIN_TAKEN, {"closed": False}, b"")
CLOSED = (frames.Kind.STDIN_TAKEN, {"closed": True}, b"")


def test_input_that_follows_comes_piece_by_piece_to_its_end(between):
    between.run(stdin=b"first", keep_open=True)
    assert (between.receive(), os.read(between.stdin, 100)) == (TAKEN, b"first")
    between.send(frames.Kind.STDIN, {"end": False}, b"second")
    assert (between.receive(), os.read(between.stdin, 100)) == (TAKEN, b"second")
    between.send(frames.Kind.STDIN, {"end": True}, b"last")
    assert read_to_end(between.stdin) == b"last"


def test_a_piece_counts_as_taken_when_the_pipe_has_it_all(between):
    between.run(keep_open=True)
    assert between.receive() == TAKEN
    piece = os.urandom(MIB)
    between.send(frames.Kind.STDIN, {"end": False}, piece)
    os.write(between.stdout, b"not taken yet")
    assert between.receive() == (frames.Kind.STDOUT, {}, b"not taken yet")
    found = bytearray()
    while len(found) < MIB:
        found += os.read(between.stdin, MIB)
    assert (bytes(found), between.receive()) == (piece, TAKEN)


def test_the_server_learns_that_a_program_reads_no_more(between):
    between.run(keep_open=True)
    assert between.receive() == TAKEN
    between.close(between.stdin)
    assert between.receive() == CLOSED
    between.send(frames.Kind.STDIN, {"end": False}, b"too late")
    os.write(between.stdout, b"alive")
    assert between.receive() == (frames.Kind.STDOUT, {}, b"alive")


def test_a_program_without_input_finds_its_end(between):
    between.run()
    assert os.read(between.stdin, 1) == b""


def test_a_large_input_waits_for_a_program_that_reads_slowly_and_all_else_goes_on(between):
    payload, stdin = os.urandom(3 * MIB), os.urandom(3 * MIB)
    assert between.run(payload, stdin) == payload
    os.write(between.stdout, b"not read yet")
    assert between.receive() == (frames.Kind.STDOUT, {}, b"not read yet")
    assert read_to_end(between.stdin) == stdin


def test_an_input_that_nobody_reads_is_dropped(between):
    between.close(between.stdin)
    between.run(stdin=bytes(MIB))
    os.write(between.stdout, b"goes on")
    assert between.receive() == (frames.Kind.STDOUT, {}, b"goes on")


def test_output_comes_as_it_is_printed_each_with_its_stream(between):
    between.run()
    os.write(between.stdout, b"out")
    assert between.receive() == (frames.Kind.STDOUT, {}, b"out")
    os.write(between.stderr, b"err")
    assert between.receive() == (frames.Kind.STDERR, {}, b"err")


def test_what_stands_in_the_pipes_at_the_end_comes_before_the_report(between):
    between.run()
    os.write(between.stdout, b"o" * 60_000)
    os.write(between.stderr, b"e" * 60_000)
    between.report({"exit_code": 0})
    received = {frames.Kind.STDOUT: b"", frames.Kind.STDERR: b""}
    while (frame := between.receive())[0] is not frames.Kind.RESULT:
        received[frame[0]] += frame[2]
    assert frame == (frames.Kind.RESULT, {"exit_code": 0}, b"")
    assert received == {frames.Kind.STDOUT: b"o" * 60_000, frames.Kind.STDERR: b"e" * 60_000}


def test_a_stream_that_the_program_closes_ends_nothing_else(between):
    between.run()
    between.close(between.stdout)
    os.write(between.stderr, b"still here")
    assert between.receive() == (frames.Kind.STDERR, {}, b"still here")
    between.report({"exit_code": 0})
    assert between.receive() == (frames.Kind.RESULT, {"exit_code": 0}, b"")


def test_the_content_of_kept_files_comes_beside_the_report_in_order(between):
    between.run()
    between.report({"files": [["a", 3], ["b", 2]]}, b"aaa", b"bb")
    assert between.receive() == (frames.Kind.RESULT, {"files": [["a", 3], ["b", 2]]}, b"aaabb")


def test_large_files_come_beside_the_report_byte_for_byte(between):
    between.run()
    content = os.urandom(20 * MIB + 1)
    between.report({"files": [["a", len(content)], ["b", 2]]}, content + b"bb")
    assert between.receive() == (frames.Kind.RESULT, {"files": [["a", len(content)], ["b", 2]]}, content + b"bb")


def test_a_stop_comes_to_init_and_a_fault_to_the_server(between):
    between.run()
    between.send(frames.Kind.STOP, {})
    assert frames.receive(between.init) == (frames.Kind.STOP, {}, [])
    frames.send(between.init, frames.Kind.FAULT, {"step": "worker", "message": "x"})
    assert between.receive() == (frames.Kind.FAULT, {"step": "worker", "message": "x"}, b"")


def test_a_stop_that_crosses_the_report_does_not_lose_it(between):
    between.run()
    os.write(between.stdout, b"o" * 128 * 1024)  # more than anybody reads now: the relay waits
    between.report({"exit_code": 0})
    between.init.shutdown(socket.SHUT_RDWR)
    between.send(frames.Kind.STOP, {})
    while (frame := between.receive())[0] is frames.Kind.STDOUT:
        pass
    assert frame == (frames.Kind.RESULT, {"exit_code": 0}, b"")
    assert between.process.wait(30) == 0


def test_a_program_that_writes_byte_by_byte_does_not_cost_a_frame_for_each(between):
    between.run()
    frames, pause = [], threading.Event()
    for _ in range(1000):
        os.write(between.stdout, b"x")
        pause.wait(0.0001)  # so that the relay finds each byte by itself
    while sum(map(len, frames)) < 1000:
        frames.append(between.receive()[2])
    assert len(frames) < 500


def test_it_ends_with_the_server_and_the_whole_container_with_it(between):
    between.run()
    assert between.process.stdin
    between.process.stdin.close()
    assert between.process.wait(30) == 0


def test_it_ends_with_a_server_that_receives_no_more(between):
    between.run()
    assert between.process.stdout
    between.process.stdout.close()
    os.write(between.stdout, b"for nobody")
    assert between.process.wait(30) == 0


def test_it_ends_with_init(between):
    between.init.close()
    assert between.process.wait(30) == 0


@pytest.mark.parametrize("noise", [b"\xff" * 8, stream.pack(frames.Kind.RUN, {})[:8] + b"\0" * 200])
def test_noise_from_the_server_ends_it_with_a_word_about_why(between, noise):
    assert between.process.stdin
    assert between.process.stderr
    between.process.stdin.write(noise)
    assert between.process.wait(30) == 1
    assert between.process.stderr.read().startswith(b"the relay failed: BadFrame: ")
