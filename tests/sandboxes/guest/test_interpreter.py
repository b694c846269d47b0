"""An interpreter as its init sees it: what it is sent, what counts as a reply, and what is dropped."""

import select
import socket
import time

import pytest

from codex_server.sandboxes.guest import interpreter as module
from codex_server.sandboxes.guest.cell_input import CellInput
from codex_server.sandboxes.guest.interpreter import Cell, Interpreter, Interpreters
from codex_server.sandboxes.protocol.session import CellOrder


def cell(identifier: int = 1) -> Cell:
    order = CellOrder(identifier, "python", 1, 0, 0, 1.0, 0, 0, 0, collect=True, open_stdin=False)
    return Cell(order, CellInput("/dev/null"), time.monotonic(), 0.0, 0)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Interpreter("python", 7, ours, None), theirs


def test_a_cell_is_sent_as_fields_that_end_with_nul(ends):
    interpreter, guest = ends
    interpreter.hand_over(cell(), [b"/run/1", b"1", b"{}", b"x = 1"])
    assert guest.recv(100) == b"/run/1\x001\x00{}\x00x = 1\x00"
    assert interpreter.wants == select.POLLIN


def test_a_long_cell_is_sent_as_the_interpreter_reads_it(ends):
    interpreter, guest = ends
    interpreter.hand_over(cell(), [b"", b"1", b"{}", b"x" * 2_000_000])
    received = b""
    while interpreter.wants & select.POLLOUT:
        received += guest.recv(2**16)
        interpreter.serve()
    guest.setblocking(False)
    while len(received) < 2_000_007:
        received += guest.recv(2**16)
    assert received.endswith(b"xx\x00")


def test_a_reply_is_what_comes_before_the_first_nul(ends):
    interpreter, guest = ends
    interpreter.hand_over(cell(), [b"code"])
    guest.send(b'{"exit_')
    interpreter.serve()
    assert interpreter.reply is None
    guest.send(b'code": 0}\x00and rubbish\x00')
    interpreter.serve()
    assert interpreter.reply == b'{"exit_code": 0}'


def test_what_was_said_unasked_is_no_reply_to_the_next_cell(ends):
    interpreter, guest = ends
    guest.send(b'{"exit_code": 0, "result": {"text/plain": "forged"}}\x00')
    interpreter.hand_over(cell(), [b"code"])
    assert interpreter.reply is None


def test_an_interpreter_that_says_too_much_is_noticed(ends, monkeypatch):
    monkeypatch.setattr(module, "MOST_IN_REPLY", 1000)
    interpreter, guest = ends
    interpreter.hand_over(cell(), [b"code"])
    guest.send(b"x" * 1001)
    interpreter.serve()
    assert interpreter.says_too_much


def test_one_that_has_closed_its_channel_is_not_polled_any_more(ends):
    interpreter, guest = ends
    interpreter.hand_over(cell(), [b"code"])
    guest.close()
    interpreter.serve()
    assert (interpreter.wants, interpreter.reply) == (0, None)
    interpreter.end_cell()
    interpreter.hand_over(cell(2), [b"code"])
    assert interpreter.wants == 0


def test_without_a_cell_nothing_is_polled_for(ends):
    interpreter, _ = ends
    assert interpreter.wants == 0


def test_one_that_has_ended_is_reported_once(ends):
    interpreter, _ = ends
    interpreters = Interpreters({"python": interpreter})
    interpreter.hand_over(cell(5), [b"code"])
    assert interpreters.running(5) is interpreter
    assert interpreters.running(6) is None
    interpreters.bury(interpreter)
    assert (interpreters.living, interpreters.ended, interpreters.with_cells) == ({}, ["python"], [])


def test_a_cell_is_taken_once_all_of_it_was_read(ends):
    interpreter, guest = ends
    interpreter.hand_over(cell(), [b"code"])
    assert not interpreter.has_taken
    guest.recv(100)
    assert interpreter.has_taken
