"""Arming: a worker is started in its slot, with pipes to the server, until it waits for the request."""

import os
import select
import socket
from typing import NamedTuple

from . import notices, worker
from .process_tree import ProcessTree
from .slot_config import SlotConfig


class Armed(NamedTuple):
    """A worker that waits. ``request`` is handed its program; ``streams`` are the server's ends of all three."""

    request: socket.socket
    streams: tuple[int, int, int]
    listener: int
    """For its notices; -1 where the kernel offers none."""
    used_internet: bool
    """Whether a socket of the Internet was made meanwhile, or may have been."""


def start_worker(
    process_tree: ProcessTree, config: SlotConfig, cgroups: list[int]
) -> tuple[socket.socket, tuple[int, int, int]]:
    """A worker that arms itself: our end of its channel, and the server's ends of its stdin, stdout and stderr."""
    stdin, stdout, stderr = (_pipe(config) for _ in range(3))
    request, theirs = socket.socketpair()
    handed = [theirs.fileno(), stdin[0], stdout[1], stderr[1]]
    process_tree.start_worker(config, [*handed, *cgroups])
    theirs.close()
    for descriptor in handed[1:]:
        os.close(descriptor)
    return request, (stdin[1], stdout[0], stderr[0])


def await_ready(request: socket.socket, streams: tuple[int, int, int]) -> Armed:
    """Wait until the worker waits. Raises ``RuntimeError`` with what it says went wrong."""
    word, listeners, _, _ = socket.recv_fds(request, 4096, 1, socket.MSG_CMSG_CLOEXEC)
    used_internet = not listeners
    if word == notices.WORD:
        used_internet = _let_go_until_ready(request, listeners[0])
        word = request.recv(4096)
    if word != worker.READY:
        raise RuntimeError(word.decode("utf-8", "replace") or "it ended while it was armed")
    return Armed(request, streams, listeners[0] if listeners else -1, used_internet)


def _let_go_until_ready(request: socket.socket, listener: int) -> bool:
    """Let go of what an agent asks for while it starts; whether a socket of the Internet was among it."""
    found = False
    poll = select.poll()
    for descriptor in (request.fileno(), listener):
        poll.register(descriptor, select.POLLIN)
    while not any(descriptor == request.fileno() for descriptor, _ in poll.poll()):
        if notice := notices.receive(listener):
            found = found or notice.is_of(notices.NETWORK)
            notices.let_go(listener, notice)
    return found


def _pipe(config: SlotConfig) -> tuple[int, int]:
    """A pipe that the worker's uid owns, so that it may open ``/dev/stdout``."""
    reader, writer = os.pipe()
    if config.template.setup.uid_per_slot:
        os.fchown(reader, config.order.uid, config.order.uid)
    return reader, writer
