"""The attach stream: whatever the engine or the container sends, frames come out whole, or it is closed."""

import asyncio
import itertools
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.sandboxes.docker.attachment import Attachment, Demultiplexer
from codex_server.sandboxes.protocol import frames, stream

pytestmark = pytest.mark.anyio

MOST = 1000
MOST_IN_PIECE = 2**20
PIECES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8)


def piece(content: bytes, number: int = 1) -> bytes:
    """``content`` as the engine passes it on."""
    return struct.pack(">B3xI", number, len(content)) + content


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in parts, cut at ``places``."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(PIECES, st.lists(st.integers(0, 500), max_size=12))
def test_pieces_come_out_as_they_went_in_however_the_bytes_are_cut(pieces, places):
    framed = b"".join(piece(content, number) for number, content in pieces)
    demultiplexer = Demultiplexer()
    found = [one for part in cut(framed, places) for one in demultiplexer.feed(part)]
    assert found == pieces


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_are_pieces_of_one_of_two_streams_or_a_bad_frame(parts):
    demultiplexer = Demultiplexer()
    for part in parts:
        try:
            found = list(demultiplexer.feed(part))
        except frames.BadFrame as error:
            assert "the engine sent" in str(error)
            return
        assert all(number in (1, 2) and len(content) <= MOST_IN_PIECE for number, content in found)


@pytest.mark.parametrize("number", [0, 3, 255])
def test_a_stream_that_is_neither_stdout_nor_stderr_is_a_bad_frame(number):
    with pytest.raises(frames.BadFrame, match=f"of stream {number}"):
        list(Demultiplexer().feed(piece(b"", number)))


def test_a_length_above_the_engines_own_is_refused_before_anything_is_kept():
    assert list(Demultiplexer().feed(struct.pack(">B3xI", 1, MOST_IN_PIECE))) == []
    with pytest.raises(frames.BadFrame):
        list(Demultiplexer().feed(struct.pack(">B3xI", 1, MOST_IN_PIECE + 1)))


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The server's loop too: its transports are no asyncio.Transport."""
    return "asyncio", {"use_uvloop": request.param}


class Far:
    """The container's end of an attachment."""

    def __init__(self, attachment: Attachment, connection: socket.socket) -> None:
        self.attachment = attachment
        self.connection = connection
        self._loop = asyncio.get_running_loop()

    async def say(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.connection, data)

    async def send(self, kind: frames.Kind, body: dict[str, Any], content: bytes = b"") -> None:
        await self.say(piece(stream.pack(kind, body, content)))

    async def noticed(self) -> None:
        """Return when the attachment no longer is silent."""
        async with asyncio.timeout(30):
            while self.attachment.silent:
                await asyncio.sleep(0)

    async def receives_the_end(self) -> bool:
        return await asyncio.wait_for(self._loop.sock_recv(self.connection, 1), 30) == b""


@pytest.fixture
async def far() -> Any:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    far = Far(await Attachment.over(ours, MOST), theirs)
    yield far
    far.attachment.close()
    await asyncio.sleep(0)
    theirs.close()
    while ours.fileno() >= 0:
        await asyncio.sleep(0)


async def received(attachment: Attachment) -> stream.Frame:
    return await asyncio.wait_for(attachment.receive(), 30)


async def test_a_frame_is_received_in_whatever_pieces_it_comes(far):
    packed = stream.pack(frames.Kind.RESULT, {"a": 1}, b"beside it")
    await far.say(b"".join(piece(packed[at : at + 3]) for at in range(0, len(packed), 3)))
    assert await received(far.attachment) == (frames.Kind.RESULT, {"a": 1}, b"beside it")


async def test_a_chunk_of_output_fits_however_little_may_come_back_in_files(far):
    assert MOST < stream.CHUNK
    chunk = bytes(range(256)) * (stream.CHUNK // 256)
    asyncio.get_running_loop().call_soon(
        asyncio.ensure_future, far.say(piece(stream.pack(frames.Kind.STDOUT, {}, chunk)))
    )
    assert await received(far.attachment) == (frames.Kind.STDOUT, {}, chunk)


async def test_many_frames_in_one_piece_come_in_order(far):
    await far.say(piece(b"".join(stream.pack(frames.Kind.STDOUT, {}, bytes([number])) for number in range(5))))
    assert [(await received(far.attachment))[2] for _ in range(5)] == [b"\0", b"\1", b"\2", b"\3", b"\4"]


async def test_what_is_sent_comes_out_of_the_other_end_as_a_frame(far):
    far.attachment.send(frames.Kind.RUN, {"b": 2}, b"content")
    data = await asyncio.get_running_loop().sock_recv(far.connection, 1000)
    assert list(stream.Unpacker(MOST).feed(data)) == [(frames.Kind.RUN, {"b": 2}, b"content")]


async def test_frames_that_came_before_the_end_are_received_first(far):
    await far.send(frames.Kind.READY, {})
    far.connection.shutdown(socket.SHUT_RDWR)
    assert (await received(far.attachment))[0] is frames.Kind.READY
    with pytest.raises(frames.Closed):
        await received(far.attachment)
    with pytest.raises(frames.Closed):
        await received(far.attachment)


async def test_the_end_of_the_other_side_ends_a_wait_and_refuses_what_is_sent(far):
    waiting = asyncio.ensure_future(far.attachment.receive())
    await asyncio.sleep(0)
    far.connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(frames.Closed):
        await asyncio.wait_for(waiting, 30)
    with pytest.raises(frames.Closed):
        far.attachment.send(frames.Kind.STOP, {})


async def test_an_armed_attachment_is_silent_until_a_frame_comes_that_is_taken(far):
    assert far.attachment.silent
    await far.send(frames.Kind.READY, {})
    await far.noticed()
    await received(far.attachment)
    assert far.attachment.silent


async def test_a_word_on_stderr_breaks_the_silence(far):
    await far.say(piece(b"Traceback ...\nMemoryError\n", 2))
    assert not far.attachment.silent
    async with asyncio.timeout(30):
        while not far.attachment.errors:
            await asyncio.sleep(0)
    assert far.attachment.errors == "Traceback ...\nMemoryError"
    assert not far.attachment.silent


async def test_an_end_breaks_the_silence(far):
    far.connection.shutdown(socket.SHUT_RDWR)
    await far.noticed()


async def test_of_stderr_only_the_beginning_is_kept(far):
    await far.say(b"".join(piece(bytes([97 + number]) * 1000, 2) for number in range(10)))
    await far.send(frames.Kind.READY, {})
    await received(far.attachment)
    assert far.attachment.errors == "a" * 1000 + "b" * 1000 + "c" * 1000 + "d" * 1000 + "e" * 96


@pytest.mark.parametrize(
    "noise",
    [
        b"HTTP/1.1 500 Internal Server Error\r\n",
        piece(b"hello from a container that is not ours\n"),
        piece(stream.pack(frames.Kind.RESULT, {}, b"x" * (stream.CHUNK + 1))),
        piece(struct.pack(">II", frames.MAX_FRAME + 1, 0)),
        piece(struct.pack(">II", 4, 0) + b"\xff\xff{}"),
    ],
    ids=["no piece", "no frame", "too much beside it", "too long", "another version"],
)
async def test_noise_is_a_bad_frame_and_closes_the_connection(far, noise):
    await far.say(noise)
    with pytest.raises(frames.BadFrame):
        await received(far.attachment)
    with pytest.raises(frames.BadFrame):
        await received(far.attachment)
    assert await far.receives_the_end()
    assert not far.attachment.silent


async def test_frames_before_the_noise_are_received(far):
    await far.say(piece(stream.pack(frames.Kind.READY, {})) + b"\7 no framing")
    assert (await received(far.attachment))[0] is frames.Kind.READY
    with pytest.raises(frames.BadFrame):
        await received(far.attachment)


async def test_closing_cuts_the_connection_at_once_though_the_other_side_does_not_read(far):
    far.attachment.send(frames.Kind.RUN, {}, bytes(8 * 2**20))
    far.attachment.close()
    far.attachment.close()
    async with asyncio.timeout(30):
        while await asyncio.get_running_loop().sock_recv(far.connection, 2**20):
            pass
    with pytest.raises(frames.Closed):
        await received(far.attachment)
    with pytest.raises(frames.Closed):
        far.attachment.send(frames.Kind.STOP, {})


async def test_a_container_that_prints_faster_than_it_is_received_must_wait(far):
    printed = 0

    async def print_on() -> None:
        nonlocal printed
        while True:
            await far.send(frames.Kind.STDOUT, {}, b"x" * MOST)
            printed += 1

    printing = asyncio.ensure_future(print_on())
    try:
        before = -1
        while printed > before:  # until the socket between them is full
            before = printed
            for _ in range(200):
                await asyncio.sleep(0)
        assert 0 < printed < 10_000
        for _ in range(printed):
            assert (await received(far.attachment))[2] == b"x" * MOST
        async with asyncio.timeout(30):
            while printed <= before:
                await asyncio.sleep(0)
    finally:
        printing.cancel()
        await asyncio.wait([printing])


async def test_a_frame_that_stands_before_the_end_of_a_full_queue_is_not_lost(far):
    sending = asyncio.ensure_future(_send_and_leave(far, 500))
    for number in range(500):
        assert (await received(far.attachment))[1] == {"n": number}
    with pytest.raises(frames.Closed):
        await received(far.attachment)
    await sending


async def _send_and_leave(far: Far, count: int) -> None:
    for number in range(count):
        await far.send(frames.Kind.STDOUT, {"n": number}, b"x" * MOST)
    far.connection.shutdown(socket.SHUT_RDWR)
