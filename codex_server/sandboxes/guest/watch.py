"""Watching a worker: what it requests of init, how it ends, and whether anybody of the guest still runs.

The order is ``begin``, then ``watch``, ``end``, ``reap``; each once for each worker.
"""

import contextlib
import os
import select
import signal
import time

from ..protocol.run import StopReason
from . import notices
from .boundary import Boundary, NamespaceBoundary
from .bounds import Bounds
from .locks import PAUSE_SECONDS
from .notice_server import NoticeServer
from .process_tree import ProcessTree

SLOT = 3
"""The descriptor of the channel to the server."""
_TICK_SECONDS = 0.1


class Watch:
    """The watch over one worker after the other. ``cgroups``: whether what all of them use is counted elsewhere."""

    def __init__(self, process_tree: ProcessTree, boundary: Boundary, bounds: Bounds, *, cgroups: bool) -> None:
        self._process_tree = process_tree
        self._boundary = boundary
        self._bounds = bounds
        self._cgroups = cgroups
        self._exit: notices.Notice | None = None
        self._notices = NoticeServer(boundary)
        self._poll = select.poll()
        for descriptor in (SLOT, *process_tree.watched):
            self._poll.register(descriptor, select.POLLIN)

    def begin(self, listener: int) -> None:
        """A worker was armed; ``listener`` is that of its notices, or -1."""
        self._notices.listener, self._exit = listener, None

    @property
    def _listener(self) -> int:
        """For the worker's notices; -1 where the kernel offers none."""
        return self._notices.listener

    def wait_for_request(self) -> bool:
        """Wait for the server. False when the worker died meanwhile: then this slot is of no use."""
        while True:
            if any(descriptor == SLOT for descriptor, _ in self._poll.poll()):
                return True
            self._process_tree.look()
            if self._process_tree.status is not None:
                return False

    def watch(self) -> StopReason | None:
        """Return when the worker has ended, passed a limit, or the server said stop; and why it is to be stopped."""
        stop: StopReason | None = None
        due = time.monotonic() + _TICK_SECONDS
        if self._listener >= 0:
            self._poll.register(self._listener, select.POLLIN)
        while self._process_tree.status is None and stop is None and self._exit is None:
            pause = PAUSE_SECONDS if self._notices.locks.waits else max(0.0, due - time.monotonic())
            events = dict(self._poll.poll(pause * 1000))
            if SLOT in events:
                stop = "stop_requested"
            elif self._listener in events:
                self._receive(events[self._listener])
            elif events:
                self._process_tree.look()
            self._notices.locks.serve_waiting()
            # INVARIANT: the limits are looked at however busy the guest keeps its init with dying children.
            if self._process_tree.status is None and stop is None and time.monotonic() >= due:
                stop = self._bounds.passed()
                due = time.monotonic() + _TICK_SECONDS
        return stop

    def end(self) -> None:
        """INVARIANT: nothing of the guest can run any more when this returns."""
        if not (self._exit and self._nobody_runs()):
            self._process_tree.end()

    @property
    def status(self) -> int:
        """The worker's wait status: as its exit was received, or as it was waited for."""
        return (self._exit.code << 8 if self._exit else self._process_tree.status) or 0

    def reap(self) -> bool:
        """Have everyone dead. False when a worker whose exit was received died of another cause than us."""
        self._process_tree.end()
        if self._listener >= 0:
            with contextlib.suppress(KeyError):  # no longer, where everyone was seen to leave
                self._poll.unregister(self._listener)
            os.close(self._listener)
            self._notices.listener = -1
        return self._exit is None or self._process_tree.status == signal.SIGKILL

    def _receive(self, events: int) -> None:
        """The worker's exit is its ending; anybody else's only one of its threads' or children's."""
        if notices.all_left(events):
            self._poll.unregister(self._listener)
            return
        notice = self._notices.receive()
        if notice is None:
            return
        if notice.caller == self._process_tree.worker and (self._is_alone() or self._cgroups):
            self._exit = notice
        else:
            self._notices.let_go(notice)

    def _is_alone(self) -> bool:
        """Whether there never was another process or thread since the worker, which is still there."""
        return isinstance(self._boundary, NamespaceBoundary) and self._boundary.newest() == self._process_tree.worker

    def _nobody_runs(self) -> bool:
        """Whether nothing of the guest can run any more although the worker, whose exit was received, is not yet dead.

        INVARIANT: the worker's first thread is held, so where it is alone nobody runs; elsewhere everyone is killed.
        """
        if self._is_alone():
            return self._process_tree.note_leaving()
        self._boundary.kill_everyone()
        wakeups = select.poll()
        for descriptor in (self._listener, *self._process_tree.watched):
            wakeups.register(descriptor, select.POLLIN)
        while self._process_tree.status is None:
            if notices.all_left(dict(wakeups.poll()).get(self._listener, 0)):
                return True
            self._process_tree.look()
        return False
