"""A worker is waited for until it waits itself, and not for ever."""

import os
import socket

import pytest

from codex_server.sandboxes.guest import notices, worker, worker_start
from codex_server.sandboxes.guest.worker_start import await_ready


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def listener():
    """Where no notice comes."""
    reader, writer = os.pipe()
    yield reader
    os.close(reader)
    os.close(writer)


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_a_worker_that_waits_is_ready(ends):
    ends[1].send(worker.READY)
    armed = await_ready(ends[0], (7,))
    assert (armed.streams, armed.listener, armed.used_internet) == ((7,), -1, True)


def test_a_worker_that_failed_says_why(ends):
    ends[1].send(b"OSError: no place")
    with pytest.raises(RuntimeError, match="OSError: no place"):
        await_ready(ends[0], ())


@pytest.mark.parametrize("announced", [False, True], ids=["at once", "after its notices"])
def test_a_worker_that_somebody_has_stopped_is_not_waited_for_and_nothing_of_it_stays_open(
    ends, listener, announced, monkeypatch
):
    monkeypatch.setattr(worker_start, "READY_SECONDS", 0.01)
    if announced:
        socket.send_fds(ends[1], [notices.WORD], [listener])
    before = open_descriptors()
    with pytest.raises(TimeoutError):
        await_ready(ends[0], ())
    assert open_descriptors() == before
