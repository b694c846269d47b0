"""Arming: a worker is started in its slot, with pipes to the server, until it waits for the request."""

import os
import select
import socket
import time
from typing import NamedTuple

from . import notices, terminal, worker
from .process_tree import ProcessTree
from .slot_config import SlotConfig

READY_SECONDS = 20.0
"""How long a worker may take until it waits. The server waits longer, so that it learns why there is none."""


class Armed(NamedTuple):
    """A worker that waits. ``request`` is handed its program; ``streams`` are the server's ends of its streams."""

    request: socket.socket
    streams: tuple[int, ...]
    listener: int
    """For its notices; -1 where the kernel offers none."""
    used_internet: bool
    """Whether a socket of the Internet was made meanwhile, or may have been."""


class Streams(NamedTuple):
    """``worker``: its stdin, stdout and stderr; ``server``: the other ends, of its input and then of its outputs."""

    worker: tuple[int, int, int]
    server: tuple[int, ...]


def start_worker(
    process_tree: ProcessTree, config: SlotConfig, cgroups: list[int]
) -> tuple[socket.socket, tuple[int, ...]]:
    """A worker that arms itself: our end of its channel, and the server's ends of its streams."""
    streams = _open_streams(config)
    request, theirs = socket.socketpair()
    process_tree.start_worker(config, [theirs.fileno(), *streams.worker, *cgroups])
    theirs.close()
    for descriptor in set(streams.worker):
        os.close(descriptor)
    return request, streams.server


def start_interpreter(
    process_tree: ProcessTree, config: SlotConfig, cgroups: list[int]
) -> tuple[int, socket.socket, tuple[int, ...]]:
    """An interpreter that arms itself: its pid, our end of its channel, and the server's ends of its outputs."""
    streams = _open_interpreter_streams(config)
    request, theirs = socket.socketpair()
    try:
        pid = process_tree.add_worker(config, [theirs.fileno(), *streams.worker, *cgroups])
    except BaseException:
        request.close()
        for descriptor in streams.server:
            os.close(descriptor)
        raise
    finally:
        theirs.close()
        for descriptor in set(streams.worker):
            os.close(descriptor)
    return pid, request, streams.server


def _open_interpreter_streams(config: SlotConfig) -> Streams:
    if config.order.stdio.terminal:
        server, program = terminal.open_pair(config.order.stdio.terminal, _owner(config))
        return Streams((program, program, program), (server,))
    (from_stdout, stdout), (from_stderr, stderr) = _pipe(config), _pipe(config)
    stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    return Streams((stdin, stdout, stderr), (from_stdout, from_stderr))


def _open_streams(config: SlotConfig) -> Streams:
    if config.order.stdio.terminal:
        server, program = terminal.open_pair(config.order.stdio.terminal, _owner(config))
        return Streams((program, program, program), (os.dup(server), server))
    (stdin, to_stdin), (from_stdout, stdout) = _pipe(config), _pipe(config)
    if config.order.stdio.merged:
        return Streams((stdin, stdout, stdout), (to_stdin, from_stdout))
    from_stderr, stderr = _pipe(config)
    return Streams((stdin, stdout, stderr), (to_stdin, from_stdout, from_stderr))


def _owner(config: SlotConfig) -> int | None:
    return config.order.uid if config.template.setup.uid_per_slot else None


def await_ready(request: socket.socket, streams: tuple[int, ...]) -> Armed:
    """Wait until the worker waits. Raises ``RuntimeError`` with what it says went wrong, and ``TimeoutError``.

    INVARIANT: init waits for no worker without an end: a guest that runs beside it can stop the worker.
    """
    due = time.monotonic() + READY_SECONDS
    poll = select.poll()
    poll.register(request, select.POLLIN)
    _wait(poll, due)
    word, listeners, _, _ = socket.recv_fds(request, 4096, 1, socket.MSG_CMSG_CLOEXEC)
    try:
        used_internet = not listeners
        if word == notices.WORD:
            used_internet = _let_go_until_ready(request, listeners[0], due)
            word = request.recv(4096)
        if word != worker.READY:
            raise RuntimeError(word.decode("utf-8", "replace") or "it ended while it was armed")
    except BaseException:
        for listener in listeners:
            os.close(listener)
        raise
    return Armed(request, streams, listeners[0] if listeners else -1, used_internet)


def _let_go_until_ready(request: socket.socket, listener: int, due: float) -> bool:
    """Let go of what an agent asks for while it starts; whether a socket of the Internet was among it."""
    found = False
    poll = select.poll()
    for descriptor in (request.fileno(), listener):
        poll.register(descriptor, select.POLLIN)
    while request.fileno() not in _wait(poll, due):
        if notice := notices.receive(listener):
            found = found or notice.is_of(notices.NETWORK)
            notices.let_go(listener, notice)
    return found


def _wait(poll: select.poll, due: float) -> dict[int, int]:
    """What has happened, once something has. Raises ``TimeoutError``."""
    if events := dict(poll.poll(max(0.0, due - time.monotonic()) * 1000)):
        return events
    raise TimeoutError("it was not ready in time")


def _pipe(config: SlotConfig) -> tuple[int, int]:
    """A pipe that the worker's uid owns, so that it may open ``/dev/stdout``."""
    reader, writer = os.pipe()
    if config.template.setup.uid_per_slot:
        os.fchown(reader, config.order.uid, config.order.uid)
    return reader, writer
