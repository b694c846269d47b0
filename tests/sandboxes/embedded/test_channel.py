"""Frames in the event loop: the server never waits for one who does not speak or listen."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from codex_server.sandboxes.embedded.channel import Channel, close_all, wait_for_exit
from codex_server.sandboxes.protocol import frames

pytestmark = [pytest.mark.anyio, pytest.mark.unprivileged]


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ours)
    with theirs:
        yield channel, theirs
    channel.close()


async def test_a_frame_that_comes_later_is_waited_for_while_the_loop_goes_on(ends):
    channel, theirs = ends
    waiting = asyncio.ensure_future(channel.receive())
    await asyncio.sleep(0)
    assert not waiting.done()
    frames.send(theirs, frames.Kind.READY, {"a": 1})
    assert await asyncio.wait_for(waiting, 30) == (frames.Kind.READY, {"a": 1}, [])


async def test_frames_that_wait_already_come_in_order(ends):
    channel, theirs = ends
    for number in range(3):
        frames.send(theirs, frames.Kind.READY, {"n": number})
    assert [(await channel.receive())[1]["n"] for _ in range(3)] == [0, 1, 2]


async def test_the_end_of_the_other_side_ends_the_wait(ends):
    channel, theirs = ends
    waiting = asyncio.ensure_future(channel.receive())
    await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(frames.Closed):
        await asyncio.wait_for(waiting, 30)


async def test_noise_is_a_bad_frame(ends):
    channel, theirs = ends
    theirs.send(b"what is this")
    with pytest.raises(frames.BadFrame):
        await channel.receive()


async def test_a_wait_that_is_cancelled_loses_no_frame(ends):
    channel, theirs = ends
    waiting = asyncio.ensure_future(channel.receive())
    await asyncio.sleep(0)
    frames.send(theirs, frames.Kind.READY, {})
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await channel.receive())[0] is frames.Kind.READY


async def test_sending_to_one_who_does_not_read_is_refused_rather_than_waited_for(ends):
    channel, _ = ends
    body = {"x": "x" * 60_000}
    with pytest.raises(BlockingIOError):
        for _ in range(1000):
            channel.send(frames.Kind.RUN, body)


async def test_sending_to_one_who_is_gone_says_so(ends):
    channel, theirs = ends
    theirs.close()
    with pytest.raises(frames.Closed):
        channel.send(frames.Kind.STOP, {})


async def test_only_an_open_channel_without_a_word_is_silent(ends):
    channel, theirs = ends
    assert channel.is_silent()
    frames.send(theirs, frames.Kind.FAULT, {})
    assert not channel.is_silent()
    assert (await channel.receive())[0] is frames.Kind.FAULT  # looking takes nothing away
    assert channel.is_silent()
    theirs.close()
    assert not channel.is_silent()
    channel.close()
    channel.close()
    assert not channel.is_silent()


async def test_one_who_died_with_our_words_unread_is_not_silent(ends):
    channel, theirs = ends
    channel.send(frames.Kind.STOP, {})
    theirs.close()
    assert not channel.is_silent()


@pytest.fixture
def process() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        pidfd = os.pidfd_open(process.pid)
        yield process, pidfd
        os.close(pidfd)
        process.kill()


async def test_the_end_of_a_process_is_noticed(process):
    process, pidfd = process
    waiting = asyncio.ensure_future(wait_for_exit(pidfd, 30))
    await asyncio.sleep(0)
    assert not waiting.done()
    process.send_signal(signal.SIGKILL)
    assert await waiting
    assert await wait_for_exit(pidfd, 30)


async def test_a_process_that_does_not_end_is_given_up_and_no_reader_stays_behind(process):
    _, pidfd = process
    assert not await wait_for_exit(pidfd, 0)
    assert not asyncio.get_running_loop().remove_reader(pidfd)


def test_unwanted_descriptors_are_closed():
    descriptors = list(os.pipe())
    close_all(descriptors)
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)


async def test_an_exit_is_waited_for_as_long_as_was_requested(monkeypatch):
    requested, timeout = [], asyncio.timeout
    monkeypatch.setattr(asyncio, "timeout", lambda seconds: requested.append(seconds) or timeout(0))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        pidfd = os.pidfd_open(process.pid)
        assert not await wait_for_exit(pidfd, 7.5)
        os.close(pidfd)
    assert requested == [7.5]
