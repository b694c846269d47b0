"""An interpreter that does not get ready is killed, and its session goes on."""

import os
import signal
import socket
from types import SimpleNamespace

import pytest

from codex_server.sandboxes.guest import worker_start
from codex_server.sandboxes.guest.process_tree import ProcessTree
from codex_server.sandboxes.guest.session_init import SessionInit
from codex_server.sandboxes.guest.signals import send
from codex_server.sandboxes.guest.slot_config import SlotConfig
from codex_server.sandboxes.protocol.session import InterpreterOrder
from tests.sandboxes.executions import SETUP, SLOT_ORDER

_ORDER = InterpreterOrder("python", None, {}, 2**26, 10, 2**20, data_limit=True)


class Boundary:
    """Of a slot whose guests are the children of this test."""

    def signal(self, pids, number):
        send(pids, number)


class Tree(ProcessTree):
    """Its workers do nothing at all; it waits for no other child of this test's process."""

    def __init__(self):
        self.watched, self.ended, self.living = [], {}, set()

    def add_worker(self, config, descriptors):
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        self.living.add(pid)
        return pid

    def look(self):
        for pid in tuple(self.living):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self.living.remove(pid)
                self.ended[pid] = status


@pytest.fixture
def init():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield SessionInit(SlotConfig(SimpleNamespace(setup=SETUP), SLOT_ORDER, Boundary()), theirs, Tree(), [])


def test_a_worker_that_does_not_get_ready_is_killed_and_leaves_nothing(init, monkeypatch):
    monkeypatch.setattr(worker_start, "READY_SECONDS", 0.01)
    before = os.listdir("/proc/self/fd")
    for _ in range(2):
        with pytest.raises(TimeoutError):
            init._arm(_ORDER)
    assert os.listdir("/proc/self/fd") == before
    assert (init.process_tree.living, init.process_tree.ended) == (set(), {})
