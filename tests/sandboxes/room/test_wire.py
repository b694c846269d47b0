"""Frames: whatever the bytes are, a frame or ``BadFrame``; and no descriptor is ever left behind."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.sandboxes.room import wire

pytestmark = pytest.mark.unprivileged

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
HEAD = bytes((wire.VERSION, wire.Kind.RUN))
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * wire.MAX_FRAME)
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
        kind, body = wire.decode(data)
    except wire.BadFrame as error:
        assert str(error)
    else:
        assert isinstance(kind, wire.Kind)
        assert isinstance(body, dict)


@given(st.sampled_from(wire.Kind), st.dictionaries(st.text(), JSON, max_size=6))
def test_what_was_encoded_is_decoded_to_the_same(kind, body):
    assert wire.decode(wire.encode(kind, body)) == (kind, body)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "0 bytes"),
        (HEAD + b"{", "3 bytes"),
        (bytes((2, wire.Kind.RUN)) + b"{}", "wire version 2"),
        (bytes((1, 0)) + b"{}", "0 is not a valid Kind"),
        (bytes((1, 99)) + b"{}", "99 is not a valid Kind"),
        (HEAD + b"[]", "not an object"),
        (HEAD + b'"text"', "not an object"),
        (HEAD + b"{} {}", "Extra data"),
        (HEAD + b'{"a":\xff}', "ascii"),
        (HEAD + b"[" * 100_000, "recursion"),
        (HEAD + b'{"a":' + b"9" * 5000 + b"}", "digits"),
        (HEAD + b'{"a":"' + b"x" * wire.MAX_FRAME + b'"}', f"{wire.MAX_FRAME + 10} bytes"),
    ],
)
def test_each_kind_of_wrong_frame_is_refused_with_its_reason(data, complaint):
    with pytest.raises(wire.BadFrame, match=complaint):
        wire.decode(data)


def test_a_frame_at_the_bound_is_sent_and_one_above_it_is_refused(pair):
    room = wire.MAX_FRAME - len(wire.encode(wire.Kind.RUN, {"a": ""}))
    wire.send(pair[0], wire.Kind.RUN, {"a": "x" * room})
    assert len(wire.receive(pair[1])[1]["a"]) == room
    with pytest.raises(wire.BadFrame, match=f"RUN frame of {wire.MAX_FRAME + 1} bytes"):
        wire.send(pair[0], wire.Kind.RUN, {"a": "x" * (room + 1)})
    with pytest.raises(BlockingIOError):
        wire.receive(pair[1])


def test_descriptors_arrive_and_are_not_inherited_by_programs(pair):
    reader, writer = os.pipe()
    wire.send(pair[0], wire.Kind.READY, {}, (reader, writer))
    kind, body, (their_reader, their_writer) = wire.receive(pair[1])
    assert (kind, body) == (wire.Kind.READY, {})
    assert not os.get_inheritable(their_reader)
    os.write(their_writer, b"word")
    assert os.read(reader, 10) == b"word"
    for descriptor in (reader, writer, their_reader, their_writer):
        os.close(descriptor)


@pytest.mark.parametrize("data", [b"\x01", HEAD + b"[]", b"\x07\x07{}", HEAD + b"x" * (wire.MAX_FRAME + 10)])
def test_the_descriptors_of_a_bad_frame_are_closed(pair, data):
    null = os.open("/dev/null", os.O_RDONLY)
    with no_descriptor_is_left():
        send_raw(pair[0], data, [null, null, null])
        with pytest.raises(wire.BadFrame):
            wire.receive(pair[1])
    os.close(null)


def test_more_descriptors_than_allowed_are_a_bad_frame_and_are_closed(pair):
    null = os.open("/dev/null", os.O_RDONLY)
    with no_descriptor_is_left():
        send_raw(pair[0], wire.encode(wire.Kind.READY, {}), [null] * (wire.MAX_DESCRIPTORS + 1))
        with pytest.raises(wire.BadFrame, match="cut off"):
            wire.receive(pair[1])
        send_raw(pair[0], wire.encode(wire.Kind.READY, {}), [null] * wire.MAX_DESCRIPTORS)
        _, _, descriptors = wire.receive(pair[1])
        assert len(descriptors) == wire.MAX_DESCRIPTORS
        for descriptor in descriptors:
            os.close(descriptor)
    os.close(null)


def test_the_descriptors_beside_an_empty_message_are_closed(pair):
    null = os.open("/dev/null", os.O_RDONLY)
    with no_descriptor_is_left():
        send_raw(pair[0], b"", [null])
        with pytest.raises(wire.Closed):
            wire.receive(pair[1])
    os.close(null)


def test_frames_keep_their_borders(pair):
    for number in range(3):
        wire.send(pair[0], wire.Kind.STOP, {"n": number})
    assert [wire.receive(pair[1])[1]["n"] for _ in range(3)] == [0, 1, 2]


def test_what_was_said_before_the_end_is_heard_then_the_end(pair):
    wire.send(pair[1], wire.Kind.RESULT, {"exit_code": 0})
    pair[1].close()
    assert wire.receive(pair[0])[0] is wire.Kind.RESULT
    with pytest.raises(wire.Closed):
        wire.receive(pair[0])


def test_what_was_said_by_one_who_died_with_our_words_unread_is_still_heard(pair):
    wire.send(pair[1], wire.Kind.RESULT, {"exit_code": 0})
    wire.send(pair[0], wire.Kind.STOP, {})
    pair[1].close()  # the kernel now answers ECONNRESET first
    assert wire.receive(pair[0])[:2] == (wire.Kind.RESULT, {"exit_code": 0})
    with pytest.raises(wire.Closed):
        wire.receive(pair[0])


def test_one_who_died_with_our_words_unread_and_said_nothing_is_gone(pair):
    wire.send(pair[0], wire.Kind.STOP, {})
    pair[1].close()
    with pytest.raises(wire.Closed):
        wire.receive(pair[0])


def test_speaking_to_one_who_is_gone_says_so(pair):
    pair[1].close()
    with pytest.raises(wire.Closed):
        wire.send(pair[0], wire.Kind.STOP, {})
