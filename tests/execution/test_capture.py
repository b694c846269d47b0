"""Promises of the captured output: bounded, whatever arrives; the same, however it is cut up; always text."""

import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.execution.capture import Capture, Recorder, mark
from codex_server.model import Captured, Stream

MARK = re.compile(r"\n\[\.\.\. ([\d,]+) bytes left out \.\.\.\]\n")
texts = st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
streams = st.lists(st.one_of(texts, st.binary(max_size=60)), max_size=12)


def capture(chunks: list[bytes], limit: int) -> Captured:
    keeper = Capture(limit)
    for chunk in chunks:
        keeper.feed(chunk)
    return keeper.captured()


@given(streams, st.integers(0, 100))
def test_the_chunking_does_not_matter(chunks: list[bytes], limit: int) -> None:
    whole = b"".join(chunks)
    assert capture(chunks, limit) == capture([whole], limit) == capture([bytes([byte]) for byte in whole], limit)


@given(streams, st.integers(0, 100))
def test_never_more_than_the_limit_and_the_mark(chunks: list[bytes], limit: int) -> None:
    kept = capture(chunks, limit)
    assert len(kept.text) <= limit + (len(mark(kept.total_bytes)) if kept.truncated else 0)


@given(streams)
def test_what_fits_is_the_decoded_stream(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert capture(chunks, len(whole)) == Captured(whole.decode("utf-8", "replace"), False, len(whole))


@given(st.text(min_size=1, max_size=200), st.integers(0, 60))
def test_text_is_cut_between_characters_and_the_numbers_add_up(text: str, limit: int) -> None:
    data = text.replace("[", "(").encode("utf-8", "replace")
    kept = capture([data], limit)
    if kept.truncated:
        head, left_out, tail = MARK.split(kept.text)
        assert data.startswith(head.encode())
        assert data.endswith(tail.encode())
        assert "\ufffd" not in head + tail or "\ufffd" in text
        assert len(head.encode()) + int(left_out.replace(",", "")) + len(tail.encode()) == len(data)
        assert len(head.encode()) > limit // 2 - 4
        assert len(tail.encode()) > (limit - limit // 2) - 4


def test_one_byte_more_than_the_limit_is_truncated_and_the_limit_itself_is_not() -> None:
    assert capture([b"x" * 10], 10) == Captured("x" * 10, False, 10)
    assert capture([b"a" * 5 + b"-" + b"z" * 5], 10) == Captured(
        "aaaaa\n[... 1 bytes left out ...]\nzzzzz", truncated=True, total_bytes=11
    )


def test_the_mark_counts_with_separators() -> None:
    assert "[... 1,234,567 bytes left out ...]" in capture([b"x" * (1_234_567 + 10)], 10).text


def test_a_character_across_two_chunks_is_whole() -> None:
    assert capture(["é".encode()[:1], "é".encode()[1:]], 10).text == "é"


def test_bytes_that_are_not_text_become_replacement_characters() -> None:
    assert capture([b"a\xff\xfeb"], 10).text == "a\ufffd\ufffdb"


@pytest.mark.parametrize("character", ["é", "€", "😀"])
def test_a_character_is_not_cut_in_half_at_either_side_of_the_mark(character: str) -> None:
    for limit in range(1, 24):
        assert "\ufffd" not in capture([(character * 20).encode()], limit).text


def test_memory_stays_bounded_while_a_gigabyte_passes() -> None:
    keeper, chunk = Capture(1000), bytes(2**20)
    tracemalloc.start()
    try:
        for _ in range(1024):
            keeper.feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert keeper.total_bytes == 2**30
    assert peak < 20_000, "a chunk was copied whole, or too much was kept"


def test_a_million_single_bytes_copy_few_bytes() -> None:
    """The tail is cut back only when it has doubled: so each byte is moved a bounded number of times."""
    keeper = Capture(64 * 1024)
    for _ in range(1_000_000):
        keeper.feed(b"x")
    kept = keeper.captured()
    assert kept.total_bytes == 1_000_000
    assert len(MARK.sub("", kept.text)) == 64 * 1024


def test_a_recorder_keeps_the_streams_apart_and_tells_of_a_flood_of_both_together() -> None:
    recorder = Recorder(limit_bytes=100, flood_bytes=10)
    assert recorder(Stream.STDOUT, b"out")
    assert recorder(Stream.STDERR, b"errors!")
    assert not recorder(Stream.STDOUT, b"x")
    assert recorder.captured(Stream.STDOUT).text == "outx"
    assert recorder.captured(Stream.STDERR).text == "errors!"
