"""``service/screen.py``: what a person would see, whatever a guest sends to its terminal."""

import builtins

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_server.service import screen as module
from codex_server.service.screen import MOST_KEPT, Screen, plainly, render

_PIECES = [b"\x1b[", b"\x1b]", b"\x1b", b"?", b";", b"9999999999", b"\x9b", b"\xff", b"\x1b#8", b"\x1b[?3h", b"\x1b(0"]
HOSTILE = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=8), max_size=60).map(b"".join)


def shown(data, *, rows=24, columns=80, form="text", column=0):
    return render(data, rows, columns, form, column)[0]


def fed(*chunks):
    screen = Screen(24, 80)
    for chunk in chunks:
        screen.feed(chunk)
    return screen


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"10%\r20%\r100%\r\ndone\r\n", "100%\ndone\n"),
        (b"abc\b\b\bxyz", "xyz"),
        (b"one\r\ntwo\r\n\x1b[A\x1b[2Kover\r\n", "one\nover\n"),
        (b"a\tb", "a       b"),
        (b"\x1b[31mred\x1b[0m \x1b[1mbold\x1b[0m", "red bold"),
        (b"\x1b]0;a title\x07$ ", "$"),
        ("日本語 ✓ é\r\n".encode(), "日本語 ✓ é\n"),
        (b"before\r\n\x1b[2J\x1b[Hafter", "after"),
        (b"\r\n" * 30 + b"end", "\n" * 30 + "end"),
        (b"", ""),
    ],
    ids=str,
)
def test_what_was_overwritten_is_gone(data, text):
    assert shown(data) == text


def test_long_output_is_shown_from_its_first_line():
    lines = [str(number) for number in range(9000)]
    assert shown("\r\n".join(lines).encode()) == "\n".join(lines)


def test_a_line_that_is_too_long_goes_on_in_the_next():
    assert shown(b"x" * 25, columns=10) == "x" * 10 + "\n" + "x" * 10 + "\n" + "x" * 5


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"\x1b[31mred\x1b[0m", "\x1b[0;31mred\x1b[0m"),
        (b"\x1b[1;94mbright\x1b[0m plain", "\x1b[0;1;94mbright\x1b[0m plain"),
        (b"\x1b[48;2;1;2;3mdeep\x1b[0m", "\x1b[0;48;2;1;2;3mdeep\x1b[0m"),
        ("\x1b[32m日本\x1b[0m語".encode(), "\x1b[0;32m日本\x1b[0m語"),
        (b"plain", "plain"),
    ],
    ids=str,
)
def test_colours_are_kept_where_they_are_asked_for(sent, kept):
    assert shown(sent, form="ansi") == kept


def test_raw_is_what_was_sent():
    assert shown(b"\x1b[31m10%\r20%\xff", form="raw") == "\x1b[31m10%\r20%�"


@pytest.mark.parametrize(
    ("data", "column", "text"),
    [
        (b" more", 6, " more"),
        (b"\r50%", 3, "50%"),
        (b"\r\n\r\n\r\nabc", 5, "\n\n\nabc"),
        (b"x\r\ny", 4, "x\ny"),
    ],
    ids=str,
)
def test_output_goes_on_where_the_cursor_stood(data, column, text):
    assert shown(data, column=column) == text


@settings(max_examples=150, deadline=None)
@given(HOSTILE, st.sampled_from(["text", "ansi", "raw"]), st.integers(1, 40), st.integers(1, 90), st.integers(0, 99))
def test_whatever_the_bytes_are_there_is_a_text(data, form, rows, columns, column):
    text, cursor = render(data, rows, columns, form, column)
    text.encode()
    assert cursor >= 0


@given(HOSTILE)
def test_whatever_is_fed_the_bounds_hold_and_everything_is_looked_at(data):
    screen = fed(*(data[start : start + 3] for start in range(0, len(data), 3)))
    assert screen.total == len(data)
    assert screen.since(0) == (data[: len(screen.since(0)[0])], 0)
    screen.take("text")
    assert screen.take("text") == (b"", 0)


def test_bytes_that_redraw_the_screen_again_and_again_are_shown_plainly(monkeypatch):
    """INVARIANT: one rendering takes seconds at most: this one would take minutes of the server's CPU time."""
    monkeypatch.setattr(module, "_MOST_SECONDS", 0.05)
    assert shown(b"end\r\n" + b"\x1b#8" * 1_000 + b"\x1b[2Jlast", rows=200, columns=200).startswith("end\n")


def test_without_the_emulator_there_is_a_plain_text(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name == "pyte":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    assert shown(b"10%\r20%\r\n\x1b]0;title\x07\x1b[31mred\x1b[0m\r\n$ ", column=3) == "20%\nred\n$"
    assert shown(b"\x1b[31m10%\r", form="raw") == "\x1b[31m10%\r"


def test_a_plain_text_has_no_control_characters():
    assert plainly(b"a\x00b\x1b[1;2Hc\x1b(0d\x1b]52;c;x\x1b\\e\x7f\tf") == "abcd".replace("d", "0d") + "e\tf"


def test_of_a_flood_the_end_is_kept_and_the_rest_is_counted():
    screen = Screen(24, 80)
    for number in range(160):
        screen.feed(b"%06d\n" % number * (MOST_KEPT // 7))
    sent = 160 * (MOST_KEPT // 7) * 7
    assert (len(screen.kept), len(screen.unread), screen.total) == (MOST_KEPT, MOST_KEPT, sent)
    data, missed = screen.take("text")
    assert (len(data), missed) == (MOST_KEPT, sent - MOST_KEPT)
    assert data.endswith(b"000159\n")
    screen.feed(b"more")
    assert screen.take("text") == (b"more", 0)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_program_with_the_whole_screen_is_shown_whole_and_leaves_nothing(size):
    sent = b"$ vi\r\n\x1b[?1049h\x1b[Htext\x1b[2;1Hmore"
    screen = fed(*(sent[start : start + size] for start in range(0, len(sent), size)))
    assert screen.full
    assert shown(screen.take("text")[0]) == "text\nmore"
    assert screen.take("text") == (b"", 0)
    screen.feed(b"\x1b[1;1HTEXT")
    assert shown(screen.take("text")[0]) == "TEXT\nmore"
    screen.feed(b"\x1b[?1049l$ ")
    assert not screen.full
    assert shown(screen.take("text")[0]) == "$ vi\n$"


def test_what_draws_a_full_screen_for_hours_is_bounded():
    screen = fed(b"\x1b[?1049h", *[b"x" * 50_000] * 20)
    assert (len(screen.drawn), len(screen.kept), screen.missed) == (MOST_KEPT, MOST_KEPT, 0)


def test_a_second_reader_leaves_what_is_new_to_the_first():
    screen = fed(b"one ", b"two")
    assert screen.since(4) == (b"two", 0)
    assert screen.since(99) == (b"", 0)
    assert screen.take("text") == (b"one two", 0)
    assert screen.since(0) == (b"one two", 0)
    screen.feed(b"x" * MOST_KEPT)
    assert screen.since(5) == (b"x" * MOST_KEPT, 2)


@pytest.mark.parametrize("form", ["text", "raw"])
def test_a_character_that_is_cut_off_is_shown_when_it_is_whole(form):
    screen = fed("naïve".encode()[:3])
    assert screen.take(form)[0] == b"na"
    screen.feed("naïve".encode()[3:])
    assert screen.take(form)[0] == "ïve".encode()


def test_a_byte_that_never_becomes_a_character_is_passed_on():
    assert fed(b"\xc3").since(0) == (b"\xc3", 0)


def test_a_control_sequence_that_is_cut_off_is_obeyed_when_it_is_whole():
    screen = fed(b"red: \x1b[3")
    assert screen.take("text")[0] == b"red: "
    screen.feed(b"1mx")
    assert shown(screen.take("text")[0]) == "x"


@pytest.mark.parametrize("form", ["text", "ansi"])
def test_what_has_left_a_full_screen_is_not_on_it(form):
    drawn = b"\r\n".join(b"line %d" % number for number in range(10))
    assert render(drawn, 3, 20, form, full=True)[0] == "line 7\nline 8\nline 9"
    assert render(drawn, 3, 20, form)[0].startswith("line 0\n")
