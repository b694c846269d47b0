"""The zygote towards its inits: what one of them sends ends nobody but that one."""

import os
import socket
from collections.abc import Iterator
from types import ModuleType

import pytest

from codex_server.sandboxes.guest.slot_template import Filters, SlotTemplate
from codex_server.sandboxes.guest.zygote import Slot, Zygote
from codex_server.sandboxes.protocol import frames
from tests.sandboxes.executions import SETUP

pytestmark = pytest.mark.unprivileged


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The zygote's end of the channel to an init, and the init's."""
    with_init = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield with_init
    for end in with_init:
        end.close()


def zygote(channel: socket.socket) -> tuple[Zygote, Slot]:
    found = Zygote(channel, SlotTemplate(SETUP, ModuleType("agent"), Filters(b"", b"")))
    slot = Slot(os.getpid(), -1, 7, channel)
    found._channels[channel.fileno()] = slot, channel
    return found, slot


@pytest.mark.parametrize(
    "sent",
    [
        b"noise",
        frames.encode(frames.Kind.FORK, {}),
        frames.encode(frames.Kind.FORK, {"uid": True, "agent": None, "env": {}, "folder": None, "number": 0}),
    ],
    ids=["no frame", "nothing", "a true for an id"],
)
def test_an_init_whose_request_is_malformed_loses_its_channel_and_the_zygote_goes_on(ends, sent):
    ours, theirs = ends
    serving, slot = zygote(ours)
    before = len(os.listdir("/proc/self/fd"))
    reader, writer = os.pipe()
    socket.send_fds(theirs, [sent], [writer])
    for end in (reader, writer):
        os.close(end)
    serving._serve_init(slot, ours)
    assert serving._channels == {}
    assert theirs.recv(1) == b""
    assert len(os.listdir("/proc/self/fd")) == before - 1
