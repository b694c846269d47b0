"""The zygote: a warm interpreter that forks an init for each slot, and a worker for each execution.

PID 1 of the outer namespaces. TRUSTED and without secrets. It never sees a byte of a guest's, so what is forked from it
knows none either. It stays single-threaded, speaks only with the server and its inits, and exits when the server is
gone.
"""

import contextlib
import gc
import os
import select
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ..protocol import frames
from ..protocol.codec import decode, encode, prepare
from ..protocol.launch import SlotSetup, ZygoteReady
from ..protocol.run import RunHeader, RunOrder, RunReport, WorkerRequest
from ..protocol.slot import SlotOrder, SlotReady, StepFailure, WorkerEnd, WorkerForked, ZygoteOrder
from . import devices, init, kernel, named_folders, notices, overlay, worker
from .boundary import boundary_of
from .landlock_boundary import LandlockBoundary
from .process_tree import ended
from .slot_config import SlotConfig
from .slot_template import Filters, SlotTemplate, load_agent
from .step import StepFailed, step

CONTROL = 3


def main() -> None:
    """Warm up, report READY, then serve ARM frames until the server is gone."""
    control = socket.socket(fileno=CONTROL)
    os.set_inheritable(CONTROL, False)
    try:
        with step("zygote"):
            template = _warm_up(decode(SlotSetup, frames.receive(control)[1]))
    except StepFailed as failure:
        frames.send(control, frames.Kind.FAULT, encode(failure.as_message))
        sys.exit(1)
    ready = ZygoteReady(overlay=template.overlay, nodes=os.path.isdir(devices.SETS))
    frames.send(control, frames.Kind.READY, encode(ready))
    Zygote(control, template).serve()


def _warm_up(setup: SlotSetup) -> SlotTemplate:
    if setup.namespaces:
        # INVARIANT: where the host's own inodes are shown, no guest can lock or watch them.
        overlaid = overlay.is_possible(setup.namespaces.shown)
        seccomp = setup.seccomp if overlaid else setup.namespaces.seccomp_without_overlay
        if setup.seccomp_of_workspaces and not overlaid:
            # INVARIANT: without overlays every guest would find every one of the operator's folders.
            raise StepFailed(named_folders.STEP, None, "this kernel allows no overlay over the folders of the host")
        kernel.drop_bounding_capabilities()
    else:
        overlaid, seccomp = False, setup.seccomp
        kernel.adopt_orphans()
    sys.path[:] = [folder for folder in sys.path if folder not in ("", setup.import_path)]
    agent = load_agent(setup.agent or "")
    agent.warm(setup.preload)
    prepare(SlotOrder, SlotReady, RunOrder, RunHeader, RunReport, WorkerRequest, WorkerEnd, WorkerForked, StepFailure)
    template = SlotTemplate(setup, agent, _filters(setup, bytes.fromhex(seccomp)), overlaid)
    gc.collect()
    gc.freeze()  # what is warm now stays out of the collector's way, so children share its pages
    gc.disable()  # and so do they when the zygote has lived for a while; a worker switches it on again
    return template


def _filters(setup: SlotSetup, seccomp: bytes) -> Filters:
    """INVARIANT: what nobody does for the guest is refused, a socket of the routing table that nobody counts too.

    It never reaches a file of the host.
    """
    held = _held(setup)
    unserved = (notices.ROUTES,) if setup.namespaces else held
    return Filters(
        seccomp=seccomp,
        of_sessions=bytes.fromhex(setup.seccomp_of_sessions),
        notices=notices.listening_filter(*held),
        without_notices=notices.refusing_filter(*unserved),
        of_workspaces=bytes.fromhex(setup.seccomp_of_workspaces),
    )


def _held(setup: SlotSetup) -> tuple[notices.Held, ...]:
    if setup.namespaces:
        return notices.END, notices.NETWORK
    return (notices.LOCKS, *(() if setup.uid_per_slot else notices.ATTRIBUTES))


@dataclass(frozen=True, slots=True)
class Slot:
    """An init that was forked: its pid and pidfd, its guest's uid, and, with namespaces, the channel to it."""

    pid: int
    pidfd: int
    uid: int
    channel: socket.socket | None


class Zygote:
    """Forks inits, and workers into their namespaces; reaps both."""

    def __init__(self, control: socket.socket, template: SlotTemplate) -> None:
        self._control = control
        self._template = template
        self._setup = template.setup
        self._slots: dict[int, Slot] = {}  # by pidfd
        self._channels: dict[int, tuple[Slot, socket.socket]] = {}
        self._workers: dict[int, tuple[int, int, Slot]] = {}  # pidfd -> pid, serial, its slot
        self._forked = 0
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY) if self._setup.namespaces else -1

    def serve(self) -> None:
        """Serve until the control socket closes: then everything in its namespaces dies with this process."""
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            self._reap(ready)
            for channel in self._channels.keys() & ready:
                self._serve_init(*self._channels[channel])
            if self._control.fileno() in ready and not self._serve_frame():
                return

    def _reap(self, ready: Iterable[int]) -> None:
        """The dead workers first: a slot ends only when its workers are reaped."""
        for pidfd in sorted(ready, key=self._workers.__contains__, reverse=True):
            if pidfd in self._workers:
                self._reap_worker(pidfd)
            elif pidfd in self._slots:
                self._reap_slot(self._slots[pidfd])

    def _serve_frame(self) -> bool:
        try:
            kind, body, descriptors = frames.receive(self._control)
        except frames.Closed:
            return False
        if kind is frames.Kind.ARM:
            self._arm(decode(ZygoteOrder, body), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _arm(self, order: ZygoteOrder, descriptors: list[int]) -> None:
        """Fork a slot's init. ``descriptors``: its channel to the server, then the cgroups to join.

        INVARIANT: a dead slot is reaped first, with all of its guest: the new one may have its uid.
        """
        self._reap([descriptor for descriptor, _ in self._poll.poll(0)])
        channel, *cgroups = descriptors
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if self._own_pids >= 0 else (None, None)
        try:
            with step("fork"):
                pid = self._fork(partial(kernel.unshare, kernel.CLONE_NEWPID) if ours else None)
        except StepFailed as failure:
            self._report_failure(channel, failure)
            return
        if pid == 0:
            init.main(self._template, order.order, [channel, *([theirs.fileno()] if theirs else []), *cgroups])
        slot = Slot(pid, os.pidfd_open(pid), order.uid, ours)
        self._slots[slot.pidfd] = slot
        self._poll.register(slot.pidfd, select.POLLIN)
        if ours and theirs:
            theirs.close()
            self._channels[ours.fileno()] = slot, ours
            self._poll.register(ours, select.POLLIN)

    def _serve_init(self, slot: Slot, channel: socket.socket) -> None:
        """An init requests a worker in its namespaces, and is handed the worker's pidfd."""
        try:
            kind, body, descriptors = frames.receive(channel)
        except (frames.Closed, frames.BadFrame):  # the init dies, which its pidfd will report
            self._drop_channel(slot)
            return
        try:
            # INVARIANT: what an init sends ends that init at most, never the zygote.
            if kind is frames.Kind.FORK:
                self._fork_worker(slot, channel, decode(SlotOrder, body), descriptors)
        except frames.BadFrame:
            self._drop_channel(slot)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork_worker(self, slot: Slot, channel: socket.socket, order: SlotOrder, descriptors: list[int]) -> None:
        try:
            with step("fork"):
                pid = self._fork(partial(kernel.setns, slot.pidfd, kernel.CLONE_NEWPID))
        except StepFailed as failure:
            self._report_failure(channel.fileno(), failure)
            return
        if pid == 0:
            config = SlotConfig(self._template, order, boundary_of(self._template, order))
            worker.main(config, descriptors, slot.pidfd)
        pidfd = os.pidfd_open(pid)
        self._forked += 1
        self._workers[pidfd] = pid, self._forked, slot
        self._poll.register(pidfd, select.POLLIN)
        self._send(slot, frames.Kind.FORKED, encode(WorkerForked(self._forked)), (pidfd,))

    def _fork(self, enter: Callable[[], None] | None) -> int:
        """Fork; ``enter`` changes the pid namespace of the next child, while this process stays where it is."""
        if len(os.listdir("/proc/self/task")) != 1:
            raise RuntimeError("the zygote has more than one thread; a fork would lose the others")
        if enter is None:
            return os.fork()
        enter()
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                kernel.setns(self._own_pids, kernel.CLONE_NEWPID)
        return pid

    def _reap_worker(self, pidfd: int) -> None:
        pid, serial, slot = self._workers.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status, usage = os.wait4(pid, 0)
        self._send(slot, frames.Kind.ENDED, encode(ended(serial, status, usage)))

    def _reap_slot(self, slot: Slot) -> None:
        self._poll.unregister(slot.pidfd)
        os.close(slot.pidfd)
        del self._slots[slot.pidfd]
        os.waitpid(slot.pid, 0)
        self._drop_channel(slot)
        if self._setup.landlock:
            # INVARIANT: nothing of a guest outlives its init, which elsewhere its pid namespace sees to.
            boundary = LandlockBoundary(self._setup.landlock, slot.uid, own_uid=self._setup.uid_per_slot)
            boundary.end_orphans([other.pid for other in self._slots.values()])

    def _drop_channel(self, slot: Slot) -> None:
        if slot.channel and self._channels.pop(slot.channel.fileno(), None):
            self._poll.unregister(slot.channel)
            slot.channel.close()

    def _send(self, slot: Slot, kind: frames.Kind, body: frames.Body, descriptors: tuple[int, ...] = ()) -> None:
        """Send to the slot's init; one that is dead receives nothing, and its server learns of its death."""
        if slot.channel and slot.channel.fileno() >= 0:
            with contextlib.suppress(frames.Closed):
                frames.send(slot.channel, kind, body, descriptors)

    def _report_failure(self, channel: int, failure: StepFailed) -> None:
        with socket.socket(fileno=os.dup(channel)) as answer, contextlib.suppress(frames.Closed):
            frames.send(answer, frames.Kind.FAULT, encode(failure.as_message))
