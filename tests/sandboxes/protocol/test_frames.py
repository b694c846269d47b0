"""Frames: whatever the bytes are, a frame or ``BadFrame``; and no descriptor is ever left behind."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.sandboxes.protocol import frames

pytestmark = pytest.mark.unprivileged

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
HEAD = bytes((frames.VERSION, frames.Kind.RUN))
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * frames.MAX_FRAME)
    with ours, theirs:
        yield ours, theirs


def send_raw(channel: socket.socket, data: bytes, descriptors: list[int]) -> None:
    socket.send_fds(channel, [data], descriptors)


@contextlib.contextmanager
def no_descriptor_is_left() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


@given(
    st.binary(max_size=200)
    | st.binary(max_size=60).map(HEAD.__add__)
    | JSON.map(lambda v: HEAD + json.dumps(v).encode())
)
def test_any_bytes_are_a_frame_or_a_bad_one_and_nothing_else(data):
    try:
        kind, body = frames.decode(data)
    except frames.BadFrame as error:
        assert str(error)
    else:
        assert isinstance(kind, frames.Kind)
        assert isinstance(body, dict)


@given(st.sampled_from(frames.Kind), st.dictionaries(st.text(), JSON, max_size=6))
def test_what_was_encoded_is_decoded_to_the_same(kind, body):
    assert frames.decode(frames.encode(kind, body)) == (kind, body)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "0 bytes"),
        (HEAD + b"{", "3 bytes"),
        (bytes((1, frames.Kind.RUN)) + b"{}", "wire version 1"),
        (bytes((frames.VERSION, 0)) + b"{}", "0 is not a valid Kind"),
        (bytes((frames.VERSION, 99)) + b"{}", "99 is not a valid Kind"),
        (HEAD + b"[]", "not an object"),
        (HEAD + b'"text"', "not an object"),
        (HEAD + b"{} {}", "Extra data"),
        (HEAD + b'{"a":\xff}', "ascii"),
        (HEAD + b"[" * 100_000, "recursion"),
        (HEAD + b'{"a":' + b"9" * 5000 + b"}", "digits"),
        (HEAD + b'{"a":"' + b"x" * frames.MAX_FRAME + b'"}', f"{frames.MAX_FRAME + 10} bytes"),
    ],
)
def test_each_kind_of_wrong_frame_is_refused_with_its_reason(data, complaint):
    with pytest.raises(frames.BadFrame, match=complaint):
        frames.decode(data)


def test_a_frame_at_the_bound_is_sent_and_one_above_it_is_refused(pair):
    space = frames.MAX_FRAME - len(frames.encode(frames.Kind.RUN, {"a": ""}))
    frames.send(pair[0], frames.Kind.RUN, {"a": "x" * space})
    assert len(frames.receive(pair[1])[1]["a"]) == space
    with pytest.raises(frames.BadFrame, match=f"RUN frame of {frames.MAX_FRAME + 1} bytes"):
        frames.send(pair[0], frames.Kind.RUN, {"a": "x" * (space + 1)})
    with pytest.raises(BlockingIOError):
        frames.receive(pair[1])


def test_descriptors_arrive_and_are_not_inherited_by_programs(pair):
    reader, writer = os.pipe()
    frames.send(pair[0], frames.Kind.READY, {}, (reader, writer))
    kind, body, (their_reader, their_writer) = frames.receive(pair[1])
    assert (kind, body) == (frames.Kind.READY, {})
    assert not os.get_inheritable(their_reader)
    os.write(their_writer, b"word")
    assert os.read(reader, 10) == b"word"
    for descriptor in (reader, writer, their_reader, their_writer):
        os.close(descriptor)


@pytest.mark.parametrize("data", [b"\x01", HEAD + b"[]", b"\x07\x07{}", HEAD + b"x" * (frames.MAX_FRAME + 10)])
def test_the_descriptors_of_a_bad_frame_are_closed(pair, data):
    null = os.open("/dev/null", os.O_RDONLY)
    with no_descriptor_is_left():
        send_raw(pair[0], data, [null, null, null])
        with pytest.raises(frames.BadFrame):
            frames.receive(pair[1])
    os.close(null)


def test_more_descriptors_than_allowed_are_a_bad_frame_and_are_closed(pair):
    null = os.open("/dev/null", os.O_RDONLY)
    with no_descriptor_is_left():
        send_raw(pair[0], frames.encode(frames.Kind.READY, {}), [null] * (frames.MAX_DESCRIPTORS + 1))
        with pytest.raises(frames.BadFrame, match="cut off"):
            frames.receive(pair[1])
        send_raw(pair[0], frames.encode(frames.Kind.READY, {}), [null] * frames.MAX_DESCRIPTORS)
        _, _, descriptors = frames.receive(pair[1])
        assert len(descriptors) == frames.MAX_DESCRIPTORS
        for descriptor in descriptors:
            os.close(descriptor)
    os.close(null)


def test_the_descriptors_beside_an_empty_message_are_closed(pair):
    null = os.open("/dev/null", os.O_RDONLY)
    with no_descriptor_is_left():
        send_raw(pair[0], b"", [null])
        with pytest.raises(frames.Closed):
            frames.receive(pair[1])
    os.close(null)


def test_frames_keep_their_borders(pair):
    for number in range(3):
        frames.send(pair[0], frames.Kind.STOP, {"n": number})
    assert [frames.receive(pair[1])[1]["n"] for _ in range(3)] == [0, 1, 2]


def test_what_was_said_before_the_end_is_received_then_the_end(pair):
    frames.send(pair[1], frames.Kind.RESULT, {"exit_code": 0})
    pair[1].close()
    assert frames.receive(pair[0])[0] is frames.Kind.RESULT
    with pytest.raises(frames.Closed):
        frames.receive(pair[0])


def test_what_was_said_by_one_who_died_with_our_words_unread_is_still_received(pair):
    frames.send(pair[1], frames.Kind.RESULT, {"exit_code": 0})
    frames.send(pair[0], frames.Kind.STOP, {})
    pair[1].close()  # the kernel now answers ECONNRESET first
    assert frames.receive(pair[0])[:2] == (frames.Kind.RESULT, {"exit_code": 0})
    with pytest.raises(frames.Closed):
        frames.receive(pair[0])


def test_one_who_died_with_our_words_unread_and_said_nothing_is_gone(pair):
    frames.send(pair[0], frames.Kind.STOP, {})
    pair[1].close()
    with pytest.raises(frames.Closed):
        frames.receive(pair[0])


def test_speaking_to_one_who_is_gone_says_so(pair):
    pair[1].close()
    with pytest.raises(frames.Closed):
        frames.send(pair[0], frames.Kind.STOP, {})
