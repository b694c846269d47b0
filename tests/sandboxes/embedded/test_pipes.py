"""The server's ends of a guest's streams never block it, whatever the guest does with the other ends."""

import asyncio
import fcntl
import os

import pytest

from codex_server.errors import InputRefused
from codex_server.sandboxes.embedded.pipes import InputPipe, OutputPipe
from codex_server.sandboxes.stdin import StandardInput

pytestmark = [pytest.mark.anyio, pytest.mark.unprivileged]


class Chunks(list[bytes]):
    """What an ``OutputPipe`` handed on; ``count`` bytes of it can be waited for."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()

    def __call__(self, chunk: bytes) -> bool:
        self.append(chunk)
        self.changed.set()
        return True

    async def count(self, wanted: int) -> bytes:
        while len(b"".join(self)) < wanted:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 30)
        return b"".join(self)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def test_output_is_handed_on_as_it_comes():
    reader, writer = os.pipe()
    chunks = Chunks()
    pipe = OutputPipe(reader, chunks)
    for word in (b"one", b"two"):
        before = len(b"".join(chunks))
        os.write(writer, word)
        assert (await chunks.count(before + len(word))).endswith(word)
    os.close(writer)
    pipe.finish()
    assert chunks == [b"one", b"two"]
    assert not is_open(reader)


async def test_a_terminal_ends_when_nobody_has_its_other_end_and_what_it_held_is_read():
    server, program = os.openpty()
    chunks = Chunks()
    pipe = OutputPipe(server, chunks)
    os.write(program, b"x" * 7000)
    os.close(program)
    pipe.finish()
    assert b"".join(chunks) == b"x" * 7000
    assert not is_open(server)


async def test_a_writer_to_a_terminal_that_still_lives_keeps_nobody_at_its_end():
    server, program = os.openpty()
    os.set_blocking(program, False)
    taken = []

    def write_more(chunk: bytes) -> bool:
        taken.append(chunk)
        os.write(program, b"x" * 2000)
        return True

    pipe = OutputPipe(server, write_more)
    os.write(program, b"x")
    pipe.finish()
    assert 1 < len(taken) < 1000
    os.close(program)


async def test_the_end_of_what_is_typed_is_a_key():
    server, program = os.openpty()
    InputPipe(os.dup(server), StandardInput(b"one\ntwo", end=b"\x04\x04"))
    assert [os.read(program, 100) for _ in range(3)] == [b"one\n", b"two", b""]
    for descriptor in (server, program):
        os.close(descriptor)


async def test_a_terminal_whose_other_end_is_gone_takes_no_input_and_is_no_error():
    server, program = os.openpty()
    os.close(program)
    InputPipe(server, StandardInput(b"nobody reads this"))
    assert not is_open(server)


async def test_what_still_stands_in_the_pipe_is_read_at_the_end():
    reader, writer = os.pipe()
    chunks = Chunks()
    pipe = OutputPipe(reader, chunks)
    size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    os.write(writer, b"x" * size)
    os.close(writer)
    pipe.finish()
    assert b"".join(chunks) == b"x" * size


async def test_a_writer_that_lives_on_and_is_silent_does_not_hold_the_end_up():
    reader, writer = os.pipe()
    chunks = Chunks()
    pipe = OutputPipe(reader, chunks)
    os.write(writer, b"last words")
    pipe.finish()
    assert chunks == [b"last words"]
    assert not is_open(reader)
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"more")
    os.close(writer)


async def test_a_writer_that_never_stops_does_not_hold_the_end_up():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    seen: list[int] = []

    def refill(chunk: bytes) -> bool:
        seen.append(len(chunk))
        assert sum(seen) <= 4 * size, "it reads for as long as somebody writes"
        os.write(writer, chunk)
        return True

    pipe = OutputPipe(reader, refill)
    os.write(writer, b"x" * size)
    pipe.finish()
    assert size <= sum(seen) < 2 * size
    os.close(writer)


async def test_a_flood_that_nobody_wants_is_left_in_the_pipe_until_the_end():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    seen: list[int] = []
    refused = asyncio.Event()

    def refuse(chunk: bytes) -> bool:
        seen.append(len(chunk))
        refused.set()
        return False

    pipe = OutputPipe(reader, refuse)
    os.write(writer, b"x")
    await asyncio.wait_for(refused.wait(), 30)
    os.write(writer, b"y" * size)
    for _ in range(10):
        await asyncio.sleep(0)
    assert seen == [1], "it reads on"
    os.close(writer)
    pipe.finish()
    assert sum(seen) == 1 + size


async def test_an_output_that_ended_by_itself_no_longer_wakes_the_loop():
    reader, writer = os.pipe()
    reads = Chunks()
    pipe = OutputPipe(reader, reads)
    os.write(writer, b"x")
    os.close(writer)
    await reads.count(1)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not loop.remove_reader(reader)
    pipe.finish()
    assert reads == [b"x"]


async def test_an_output_is_closed_twice_without_harm():
    reader, writer = os.pipe()
    pipe = OutputPipe(reader, Chunks())
    pipe.close()
    again = os.open("/dev/null", os.O_RDONLY)
    pipe.close()
    pipe.finish()
    assert is_open(again)
    os.close(again)
    os.close(writer)


async def test_input_is_written_whole_then_closed():
    reader, writer = os.pipe()
    InputPipe(writer, StandardInput(b"for the program"))
    assert os.read(reader, 100) == b"for the program"
    assert os.read(reader, 100) == b""
    assert not is_open(writer)
    os.close(reader)


async def test_no_input_is_an_end_at_once():
    reader, writer = os.pipe()
    InputPipe(writer, StandardInput(b""))
    assert os.read(reader, 100) == b""
    os.close(reader)


async def test_more_input_than_the_pipe_holds_goes_on_as_the_reader_reads_and_blocks_nobody():
    reader, writer = os.pipe()
    content = os.urandom(300_000)
    InputPipe(writer, StandardInput(content))
    chunks = Chunks()
    output = OutputPipe(reader, chunks)
    assert await chunks.count(len(content)) == content
    assert not is_open(writer)
    output.close()


async def test_a_reader_that_is_gone_from_the_start_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    InputPipe(writer, StandardInput(b"nobody reads this"))
    assert not is_open(writer)


async def test_a_reader_that_leaves_midway_is_no_error():
    reader, writer = os.pipe()
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    InputPipe(writer, StandardInput(b"x" * 2**20))
    assert is_open(writer)
    os.close(reader)
    await asyncio.wait_for(_closed(writer), 30)
    assert not failures


async def test_input_that_nobody_reads_is_closed_twice_without_harm():
    reader, writer = os.pipe()
    pipe = InputPipe(writer, StandardInput(b"x" * 2**20))
    pipe.close()
    again = os.open("/dev/null", os.O_RDONLY)
    pipe.close()
    assert is_open(again)
    for descriptor in (again, reader):
        os.close(descriptor)


async def _closed(descriptor: int) -> None:
    while is_open(descriptor):
        await asyncio.sleep(0)


async def test_input_that_is_kept_open_goes_on_until_it_is_closed():
    reader, writer = os.pipe()
    stdin = StandardInput(b"a", keep_open=True)
    InputPipe(writer, stdin)
    assert os.read(reader, 100) == b"a"
    stdin.write(b"b")
    assert os.read(reader, 100) == b"b"
    assert is_open(writer)
    stdin.close()
    assert os.read(reader, 100) == b""
    assert not is_open(writer)
    os.close(reader)


async def test_input_for_a_program_that_has_left_is_refused():
    reader, writer = os.pipe()
    stdin = StandardInput(keep_open=True)
    InputPipe(writer, stdin)
    os.close(reader)
    stdin.write(b"finds out")
    assert not is_open(writer)
    with pytest.raises(InputRefused):
        stdin.write(b"more")
