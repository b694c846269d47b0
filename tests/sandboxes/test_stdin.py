"""What a program reads: known at the start, or written while it runs."""

import pytest

from codex_server.errors import InputRefused
from codex_server.sandboxes.stdin import MOST_WAITING, StandardInput


def taken(stdin: StandardInput, most: int = 100) -> bytes:
    chunk = bytes(stdin.peek(most))
    stdin.take(len(chunk))
    return chunk


def test_what_is_known_at_the_start_ends_when_it_was_taken():
    stdin = StandardInput(b"known")
    assert (taken(stdin, 3), stdin.ended, taken(stdin), stdin.ended) == (b"kno", False, b"wn", True)
    assert StandardInput().ended


def test_what_is_written_follows_and_is_announced():
    changes = []
    stdin = StandardInput(b"a", keep_open=True)
    stdin.read_by(lambda: changes.append(bytes(stdin.peek(100))))
    stdin.write(b"b")
    assert (taken(stdin), taken(stdin), taken(stdin), stdin.ended) == (b"a", b"b", b"", False)
    stdin.write(b"c")
    stdin.close()
    assert changes == [b"a", b"c", b"c"]
    assert (stdin.ended, taken(stdin), stdin.ended) == (False, b"c", True)


def test_one_that_was_not_kept_open_refuses_more():
    with pytest.raises(InputRefused, match="without `keep_stdin_open`"):
        StandardInput(b"known").write(b"more")
    with pytest.raises(InputRefused, match="without `keep_stdin_open`"):
        StandardInput().close()


def test_one_that_was_closed_refuses_more():
    stdin = StandardInput(keep_open=True)
    stdin.close()
    with pytest.raises(InputRefused, match="was closed before"):
        stdin.write(b"more")
    with pytest.raises(InputRefused, match="was closed before"):
        stdin.close()


def test_one_that_its_program_has_left_refuses_more_and_keeps_nothing():
    stdin = StandardInput(b"known", keep_open=True)
    stdin.write(b"more")
    stdin.abandon()
    assert (stdin.ended, bytes(stdin.peek(100))) == (True, b"")
    with pytest.raises(InputRefused, match="reads no more input"):
        stdin.write(b"more")


def test_what_waits_is_bounded_and_what_is_refused_is_not_sent_in_part():
    stdin = StandardInput(b"x" * MOST_WAITING, keep_open=True)
    stdin.write(b"y" * MOST_WAITING)
    with pytest.raises(InputRefused, match="has not read"):
        stdin.write(b"z")
    stdin.take(MOST_WAITING + 1)
    stdin.write(b"z")
    assert bytes(stdin.peek(2 * MOST_WAITING)) == b"y" * (MOST_WAITING - 1) + b"z"
