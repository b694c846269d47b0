"""The slot's init: PID 1 of a slot, TRUSTED. It sets up isolation, requests a worker, monitors it and reports its end.

It serves one execution after another, each in a worker, files, network and ipc namespace of its own; a slot in which
anything was out of the ordinary is thrown away. At level ``confined`` it serves one. ``Init.serve`` is the order of a
slot's life; its parts are ``arming``, ``bounds`` (limits), ``watching`` (and how a worker ends) and ``workspace``.
INVARIANT: every number of the ending comes from the kernel (``wait4``, a held exit's registers, clocks), none from the
worker.
"""

import contextlib
import fcntl
import gc
import os
import signal
import socket
import time
from dataclasses import replace
from types import ModuleType
from typing import Any, NoReturn

from ..protocol import frames
from . import kernel, worker_start, workspace
from .boundary import Boundary, NamespaceBoundary, boundary_of
from .bounds import Bounds
from .process_tree import ProcessTree, ReparentedProcessTree
from .slot_config import SlotConfig
from .step import StepFailed, step
from .watch import SLOT, Watch

_OUT_OF_THE_WAY = 512


def main(setup: dict[str, Any], agent: ModuleType, body: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Be the init of a slot until the server is done with it. Never returns.

    ``descriptors``: the channel to the server, in a room of its own the line to the zygote, then the cgroups to join.
    """
    number, *rest = _keep_only(descriptors)
    channel = socket.socket(fileno=number)
    try:
        if not setup["namespaces"]:
            # INVARIANT: the folder's name comes past the zygote: in its memory it would be found by every later guest.
            _, body, _ = frames.receive(channel)
    except frames.Closed:
        os._exit(0)
    init = Init(setup, agent, body, channel, rest)
    try:
        with step("init"):
            init.serve()
    except StepFailed as failure:
        if not isinstance(failure.__cause__, frames.Closed):
            with contextlib.suppress(frames.Closed):
                frames.send(init.channel, frames.Kind.FAULT, failure.as_body())
    finally:
        init.process_tree.end()
        os._exit(0)


def _keep_only(descriptors: list[int]) -> range:
    """Make them number 3 and up, and close every other one: those of other slots among them."""
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for descriptor in descriptors]
    for target, source in enumerate(copies, SLOT):
        os.dup2(source, target, inheritable=False)
    kernel.close_descriptors_from(SLOT + len(copies))
    return range(SLOT, SLOT + len(copies))


class Init:
    """One slot, from its making to its end."""

    def __init__(
        self,
        setup: dict[str, Any],
        agent: ModuleType,
        body: dict[str, Any],
        channel: socket.socket,
        rest: list[int],
        *,
        boundary: Boundary | None = None,
    ) -> None:
        self._setup = setup
        self.channel = channel
        self._boundary = boundary or boundary_of(setup, body)
        self._config = SlotConfig(setup, body, agent, self._boundary)
        self.process_tree: ProcessTree
        if setup["namespaces"]:
            line, *self._cgroups = rest
            self.process_tree = ReparentedProcessTree(self._boundary, socket.socket(fileno=line))
        else:
            self.process_tree, self._cgroups = ProcessTree(self._boundary), []
        self._bounds = self._make_bounds()
        self._rehearsed = False

    def _make_bounds(self) -> Bounds:
        return Bounds(self._setup, self._boundary, self.process_tree)

    def serve(self) -> None:
        """Serve executions until the server closes the channel, or asks for none after the first (``confined``)."""
        self._enter()
        own: tuple[int, ...] = (os.pidfd_open(os.getpid()),)
        while True:
            self._arm(own)
            if not self._serve_execution():
                return
            if isinstance(self._boundary, NamespaceBoundary):
                self._boundary.renew()
            body = self._next_order()
            if body is None:
                return
            self._config, own = replace(self._config, body=body), ()

    def _enter(self) -> None:
        """Raise the boundary, before anything of a guest exists."""
        gc.disable()  # a collection would touch, and so copy, every page that is shared with the zygote
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        with step("cgroup"):
            for cgroup in self._cgroups:
                os.write(cgroup, b"0")
        self._boundary.enter()
        kernel.set_dumpable(False)
        self._watch = Watch(self.process_tree, self._boundary, self._bounds, cgroups=self._setup["cgroups"])

    def _arm(self, own: tuple[int, ...]) -> None:
        """Have a worker started, wait until it waits, then tell the server.

        ``own``: init's pidfd, the first time, for a server that is beside it.
        """
        with step("worker"):
            request, streams = worker_start.start_worker(self.process_tree, self._config, self._cgroups)
            if not self._rehearsed:
                self._rehearse()
            armed = worker_start.hear_ready(request, streams)
        self._request = armed.request
        if armed.used_internet:
            self._boundary.note_internet()
        self._watch.begin(armed.listener)
        frames.send(self.channel, frames.Kind.READY, {}, own + armed.streams)
        for descriptor in own + armed.streams:
            os.close(descriptor)

    def _rehearse(self) -> None:
        """Do once, with nothing in it, what a run will do: the page faults of a forked process are paid here."""
        bounds = {"inline_bytes": 0, "inline_total_bytes": 0}
        listing, _ = workspace.collect(workspace.open_folder(self._boundary.workspace), {}, bounds)
        payload = os.memfd_create("rehearsal", os.MFD_CLOEXEC)
        header = b'{"file":"","files":[],"args":[],"argv":[],"env":{}}'
        os.write(payload, header)
        workspace.fill(self._boundary.workspace, payload, {"header_bytes": len(header)}, self._config.body["uid"])
        os.close(payload)
        frames.decode(frames.encode(frames.Kind.RESULT, self._result(None, 0.0, listing)))
        self._rehearsed = True

    def _serve_execution(self) -> bool:
        """Wait for the execution, run it to its end, report. False when none came, or the slot is of no more use."""
        if not self._watch.wait_for_request():
            return False
        kind, body, descriptors = frames.receive(self.channel)
        if kind is not frames.Kind.RUN:
            return False
        with step("workspace"):
            header, written = workspace.fill(self._boundary.workspace, descriptors[0], body, self._config.body["uid"])
            os.close(descriptors[0])
            folder = workspace.open_folder(self._boundary.workspace)
        self._bounds.begin(body)
        started = time.monotonic()
        self._hand_over(header)
        stop = self._watch.watch()
        wall = time.monotonic() - started
        self._watch.end()
        if stop is None and self._bounds.ended_for_cpu():
            stop = "cpu_time"
        with step("collect"):
            listing, content = workspace.collect(folder, written, body, self._boundary.used_temp())
        self._report(self._result(stop, wall, listing), content)
        return self._watch.reap()

    def _hand_over(self, header: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker's wait status tells the rest
            self._request.sendall(header)
        self._request.close()

    def _report(self, result: dict[str, Any], content: int | None) -> None:
        kept = (content,) if content is not None else ()
        frames.send(self.channel, frames.Kind.RESULT, result, kept)
        for descriptor in kept:
            os.close(descriptor)

    def _result(self, stop: str | None, wall: float, listing: dict[str, Any]) -> dict[str, Any]:
        status = self._watch.status
        return {
            "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            "stop": stop,
            "wall_seconds": wall,
            **self._bounds.counted(),
            **listing,
        }

    def _next_order(self) -> dict[str, Any] | None:
        """The order to be armed again, or None when the server has closed the channel.

        A STOP that crossed the result is passed over.
        INVARIANT: nothing is left unread at the exit, or the kernel would reset the channel and drop the result.
        """
        try:
            while True:
                kind, body, _ = frames.receive(self.channel)
                if kind is frames.Kind.ARM:
                    return body
        except frames.Closed:
            return None
