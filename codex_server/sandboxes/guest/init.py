"""The slot's init: PID 1 of a slot, TRUSTED. It sets up isolation, requests a worker, monitors it and reports its end.

It serves one execution after another, each in a worker, files, network and ipc namespace of its own; a slot in which
anything was out of the ordinary is thrown away. At level ``confined`` it serves one. ``Init.serve`` is the order of a
slot's life; its parts are ``arming``, ``bounds`` (limits), ``watching`` (and how a worker ends) and ``workspace``.
INVARIANT: every number of the ending comes from the kernel (``wait4``, a held exit's registers, clocks), none from the
worker.
"""

import contextlib
import fcntl
import os
import socket
import time
from dataclasses import replace
from typing import NoReturn

from ..protocol import frames
from ..protocol.codec import decode, encode, render
from ..protocol.run import RunHeader, RunOrder, RunReport, StopReason
from ..protocol.slot import SlotOrder, SlotReady
from . import kernel, worker_start, workspace
from .boundary import Boundary, NamespaceBoundary, boundary_of
from .bounds import Bounds
from .process_tree import tree_of
from .session_init import SessionInit
from .slot_config import SlotConfig
from .slot_entry import enter_slot
from .slot_template import SlotTemplate
from .step import StepFailed, step
from .watch import SLOT, Watch

_OUT_OF_THE_WAY = 512


def main(template: SlotTemplate, order: SlotOrder | None, descriptors: list[int]) -> NoReturn:
    """Be the init of a slot until the server is done with it. Never returns.

    ``descriptors``: the channel to the server, with namespaces the one to the zygote, then the cgroups to join.
    """
    number, *rest = _keep_only(descriptors)
    channel = socket.socket(fileno=number)
    try:
        if order is None:
            # INVARIANT: the folder's name comes past the zygote: in its memory it would be found by every later guest.
            order = decode(SlotOrder, frames.receive(channel)[1])
        init = _init_of(template, order, channel, rest)
    except (frames.Closed, frames.BadFrame, ValueError):  # the server sees the channel close
        os._exit(0)
    try:
        with step("init"):
            init.serve()
    except StepFailed as failure:
        if not isinstance(failure.__cause__, frames.Closed):
            with contextlib.suppress(frames.Closed):
                frames.send(init.channel, frames.Kind.FAULT, encode(failure.as_message))
    finally:
        init.process_tree.end()
        os._exit(0)


def _init_of(template: SlotTemplate, order: SlotOrder, channel: socket.socket, rest: list[int]) -> "Init | SessionInit":
    if order.role != "session":
        return Init(template, order, channel, rest)
    boundary = boundary_of(template, order)
    process_tree, cgroups = tree_of(boundary, template.setup, rest)
    return SessionInit(SlotConfig(template, order, boundary), channel, process_tree, cgroups)


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
        template: SlotTemplate,
        order: SlotOrder,
        channel: socket.socket,
        rest: list[int],
        *,
        boundary: Boundary | None = None,
    ) -> None:
        self.channel = channel
        self._boundary = boundary or boundary_of(template, order)
        self._setup = template.setup
        self._config = SlotConfig(template, order, self._boundary)
        self.process_tree, self._cgroups = tree_of(self._boundary, template.setup, rest)
        self._bounds = self._make_bounds()
        self._warmed_up = False

    def _make_bounds(self) -> Bounds:
        return Bounds(self._setup, self._boundary, self.process_tree)

    def serve(self) -> None:
        """Serve executions until the server closes the channel, or requests none after the first (``confined``)."""
        self._enter()
        own: tuple[int, ...] = (os.pidfd_open(os.getpid()),)
        while True:
            self._arm(own)
            if not self._serve_execution():
                return
            if isinstance(self._boundary, NamespaceBoundary):
                self._boundary.renew()
            order = self._next_order()
            if order is None:
                return
            self._config, own = replace(self._config, order=order), ()

    def _enter(self) -> None:
        """Raise the boundary, before anything of a guest exists."""
        enter_slot(self._boundary, self._cgroups)
        self._watch = Watch(self.process_tree, self._boundary, self._bounds, cgroups=self._setup.cgroups)

    def _arm(self, own: tuple[int, ...]) -> None:
        """Have a worker started, wait until it waits, then report that to the server.

        ``own``: init's pidfd, the first time, for a server that is beside it.
        """
        with step("worker"):
            request, streams = worker_start.start_worker(self.process_tree, self._config, self._cgroups)
            if not self._warmed_up:
                self._warm_up()
            armed = worker_start.await_ready(request, streams)
        self._request = armed.request
        if armed.used_internet:
            self._boundary.note_internet()
        self._watch.begin(armed.listener)
        frames.send(self.channel, frames.Kind.READY, encode(SlotReady()), own + armed.streams)
        for descriptor in own + armed.streams:
            os.close(descriptor)

    def _warm_up(self) -> None:
        """Do once, with nothing in it, what a run will do: the page faults of a forked process are paid here."""
        listing = workspace.collect(workspace.open_folder(self._boundary.workspace), {}, 0, 0)
        payload = os.memfd_create("warm-up", os.MFD_CLOEXEC)
        header = render(RunHeader("", (), (), (), {}))
        os.write(payload, header)
        workspace.fill(self._boundary.workspace, payload, len(header), self._config.order.uid)
        os.close(payload)
        report = encode(self._report_of(None, 0.0, listing))
        decode(RunReport, frames.decode(frames.encode(frames.Kind.RESULT, report))[1])
        self._warmed_up = True

    def _serve_execution(self) -> bool:
        """Wait for the execution, run it to its end, report. False when none came, or the slot is of no more use."""
        if not self._watch.wait_for_request():
            return False
        kind, body, descriptors = frames.receive(self.channel)
        if kind is not frames.Kind.RUN:
            return False
        with step("workspace"):
            order, uid = decode(RunOrder, body), self._config.order.uid
            request, written = workspace.fill(self._boundary.workspace, descriptors[0], order.header_bytes, uid)
            os.close(descriptors[0])
            folder = workspace.open_folder(self._boundary.workspace)
        self._bounds.begin(order)
        started = time.monotonic()
        self._hand_over(request)
        stop = self._watch.watch()
        wall = time.monotonic() - started
        self._watch.end()
        if stop is None and self._bounds.ended_for_cpu():
            stop = "cpu_time"
        with step("collect"):
            bounds = order.inline_bytes, order.inline_total_bytes
            listing = workspace.collect(folder, written, *bounds, self._boundary.used_temp())
        self._report(self._report_of(stop, wall, listing), listing.content)
        return self._watch.reap()

    def _hand_over(self, request: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker's wait status says the rest
            self._request.sendall(request)
        self._request.close()

    def _report(self, report: RunReport, content: int | None) -> None:
        kept = (content,) if content is not None else ()
        frames.send(self.channel, frames.Kind.RESULT, encode(report), kept)
        for descriptor in kept:
            os.close(descriptor)

    def _report_of(self, stop: StopReason | None, wall: float, listing: workspace.Listing) -> RunReport:
        status, usage = self._watch.status, self._bounds.usage()
        return RunReport(
            exit_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            stop=stop,
            wall_seconds=wall,
            cpu_seconds=usage.cpu_seconds,
            peak_memory_bytes=usage.peak_memory_bytes,
            oom_kills=usage.oom_kills,
            files=listing.files,
            skipped=listing.skipped,
            unlisted=listing.unlisted,
        )

    def _next_order(self) -> SlotOrder | None:
        """The order to be armed again, or None when the server has closed the channel.

        A STOP that crossed the result is passed over.
        INVARIANT: nothing is left unread at the exit, or the kernel would reset the channel and drop the result.
        """
        try:
            while True:
                kind, body, _ = frames.receive(self.channel)
                if kind is frames.Kind.ARM:
                    return decode(SlotOrder, body)
        except frames.Closed:
            return None
