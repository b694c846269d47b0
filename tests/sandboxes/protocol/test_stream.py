"""Frames over a stream: they come out as they went in, and nothing is kept that is too long."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.sandboxes.protocol import frames, stream

pytestmark = pytest.mark.unprivileged

MOST = 100
BODIES = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3)
FRAMES = st.lists(st.tuples(st.sampled_from(frames.Kind), BODIES, st.binary(max_size=MOST)), max_size=6)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(FRAMES, st.lists(st.integers(0, 2000), max_size=12))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(frames, places):
    unpacker = stream.Unpacker(MOST)
    packed = b"".join(itertools.starmap(stream.pack, frames))
    assert [frame for part in cut(packed, places) for frame in unpacker.feed(part)] == frames


@given(st.lists(st.binary(max_size=100), max_size=6))
def test_any_bytes_are_frames_or_a_bad_one_and_nothing_else(parts):
    unpacker = stream.Unpacker(MOST)
    for part in parts:
        try:
            found = list(unpacker.feed(part))
        except frames.BadFrame as error:
            assert str(error)
            return
        assert all(isinstance(body, dict) and len(content) <= MOST for _, body, content in found)


def test_a_frame_that_is_not_whole_yet_is_waited_for():
    packed = stream.pack(frames.Kind.RUN, {"a": 1}, b"content")
    unpacker = stream.Unpacker(MOST)
    assert list(unpacker.feed(packed[:-1])) == []
    assert list(unpacker.feed(packed[-1:])) == [(frames.Kind.RUN, {"a": 1}, b"content")]


def test_lengths_up_to_the_bounds_are_waited_for_and_above_them_refused_at_once():
    assert list(stream.Unpacker(MOST).feed(struct.pack(">II", frames.MAX_FRAME, MOST))) == []
    for lengths in ((frames.MAX_FRAME + 1, 0), (0, MOST + 1), (2**32 - 1, 2**32 - 1)):
        with pytest.raises(frames.BadFrame, match=f"{lengths[0]} bytes with {lengths[1]} beside it"):
            list(stream.Unpacker(MOST).feed(struct.pack(">II", *lengths)))


def test_frames_before_a_bad_one_are_reported():
    reported = stream.Unpacker(MOST).feed(stream.pack(frames.Kind.STOP, {}) + struct.pack(">II", 0, MOST + 1))
    assert next(reported) == (frames.Kind.STOP, {}, b"")
    with pytest.raises(frames.BadFrame):
        next(reported)


def test_a_body_that_is_too_large_is_refused_by_its_sender():
    with pytest.raises(frames.BadFrame):
        stream.pack(frames.Kind.RUN, {"a": "x" * frames.MAX_FRAME})
