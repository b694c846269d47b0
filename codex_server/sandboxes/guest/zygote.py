"""The zygote: PID 1 of the room, a warm interpreter that forks an init for each slot, and a worker for each execution.

TRUSTED and without secrets. It never sees a byte of a guest's, so what is forked from it knows none either. It stays
single-threaded, speaks only with the server and its inits, and exits when the server is gone.
"""

import contextlib
import gc
import importlib.util
import os
import select
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from ..protocol import frames
from . import devices, init, kernel, notices, overlay, worker
from .boundary import LandlockBoundary, NamespaceBoundary
from .process_tree import ended
from .slot_config import SlotConfig
from .step import StepFailed, step

CONTROL = 3


def main() -> None:
    """Warm up, report READY, then serve ARM frames until the server is gone."""
    control = socket.socket(fileno=CONTROL)
    os.set_inheritable(CONTROL, False)
    try:
        _, setup, _ = frames.receive(control)
        agent = _warm_up(setup)
    except StepFailed as failure:
        frames.send(control, frames.Kind.FAULT, failure.as_body())
        sys.exit(1)
    frames.send(control, frames.Kind.READY, {"overlay": setup["overlay"], "nodes": os.path.isdir(devices.SETS)})
    Zygote(control, setup, agent).serve()


def _warm_up(setup: dict[str, Any]) -> ModuleType:
    with step("zygote"):
        if setup["namespaces"]:
            # INVARIANT: where the host's own inodes are shown, no guest can lock or watch them.
            setup["overlay"] = overlay.is_possible(setup["shown"])
            setup["seccomp"] = setup["seccomp"] if setup["overlay"] else setup["seccomp_without_overlay"]
            kernel.drop_bounding_capabilities()
        else:
            kernel.adopt_orphans()
        sys.path[:] = [folder for folder in sys.path if folder not in ("", setup["import_path"])]
        setup["seccomp"] = bytes.fromhex(setup["seccomp"])
        held = _held(setup)
        setup["notices"] = notices.listening_filter(*held)
        # INVARIANT: what nobody does for the guest is refused; it never reaches a file of the host. So is a socket of
        # the routing table that nobody counts.
        unserved = (notices.ROUTES,) if setup["namespaces"] else held
        setup["without_notices"] = notices.refusing_filter(*unserved)
        agent = load_agent(setup["agent"])
        agent.warm(setup["preload"])
        gc.collect()
        gc.freeze()  # what is warm now stays out of the collector's way, so children share its pages
        gc.disable()  # and so do they when the zygote has lived for a while; a worker switches it on again
        return agent


def _held(setup: dict[str, Any]) -> tuple[notices.Held, ...]:
    if setup["namespaces"]:
        return notices.END, notices.NETWORK
    return (notices.LOCKS, *(() if setup["uid_per_slot"] else notices.ATTRIBUTES))


def load_agent(path: str) -> ModuleType:
    """The runner's agent in the file ``path``. Raises ``ImportError``."""
    spec = importlib.util.spec_from_file_location("_runner_agent", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True)
class Slot:
    """An init that was forked: its pid and pidfd, what it was told, and its line, in a room of its own."""

    pid: int
    pidfd: int
    body: dict[str, Any]
    line: socket.socket | None


class Zygote:
    """Forks inits, and workers into their namespaces; reaps both."""

    def __init__(self, control: socket.socket, setup: dict[str, Any], agent: ModuleType) -> None:
        self._control = control
        self._setup = setup
        self._agent = agent
        self._slots: dict[int, Slot] = {}  # by pidfd
        self._lines: dict[int, tuple[Slot, socket.socket]] = {}
        self._workers: dict[int, tuple[int, Slot]] = {}  # pidfd -> pid, its slot
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY) if setup["namespaces"] else -1

    def serve(self) -> None:
        """Serve until the control socket closes: then everything in the room dies with this process."""
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            self._reap(ready)
            for line in self._lines.keys() & ready:
                self._serve_line(*self._lines[line])
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
            self._arm(body, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _arm(self, body: dict[str, Any], descriptors: list[int]) -> None:
        """Fork a slot's init. ``descriptors``: its channel to the server, then the cgroups to join.

        INVARIANT: a dead slot is buried first, with all of its guest: the new one may have its uid.
        """
        self._reap([descriptor for descriptor, _ in self._poll.poll(0)])
        channel, *cgroups = descriptors
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if self._own_pids >= 0 else (None, None)
        try:
            with step("fork"):
                pid = self._fork(partial(kernel.unshare, kernel.CLONE_NEWPID) if line else None)
        except StepFailed as failure:
            self._tell_of_failure(channel, failure)
            return
        if pid == 0:
            init.main(self._setup, self._agent, body, [channel, *([theirs.fileno()] if theirs else []), *cgroups])
        slot = Slot(pid, os.pidfd_open(pid), body, line)
        self._slots[slot.pidfd] = slot
        self._poll.register(slot.pidfd, select.POLLIN)
        if line and theirs:
            theirs.close()
            self._lines[line.fileno()] = slot, line
            self._poll.register(line, select.POLLIN)

    def _serve_line(self, slot: Slot, line: socket.socket) -> None:
        """An init asks for a worker in its namespaces, and is handed the worker's pidfd."""
        try:
            kind, body, descriptors = frames.receive(line)
        except frames.Closed:  # the init dies, which its pidfd will tell
            self._drop_line(slot)
            return
        try:
            if kind is frames.Kind.FORK:
                self._fork_worker(slot, line, body, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork_worker(self, slot: Slot, line: socket.socket, body: dict[str, Any], descriptors: list[int]) -> None:
        try:
            with step("fork"):
                pid = self._fork(partial(kernel.setns, slot.pidfd, kernel.CLONE_NEWPID))
        except StepFailed as failure:
            self._tell_of_failure(line.fileno(), failure)
            return
        if pid == 0:
            config = SlotConfig(self._setup, body, self._agent, NamespaceBoundary(self._setup, body))
            worker.main(config, descriptors, slot.pidfd)
        pidfd = os.pidfd_open(pid)
        self._workers[pidfd] = pid, slot
        self._poll.register(pidfd, select.POLLIN)
        self._send(slot, frames.Kind.FORKED, {}, (pidfd,))

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
        pid, slot = self._workers.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status, usage = os.wait4(pid, 0)
        self._send(slot, frames.Kind.ENDED, ended(status, usage))

    def _reap_slot(self, slot: Slot) -> None:
        self._poll.unregister(slot.pidfd)
        os.close(slot.pidfd)
        del self._slots[slot.pidfd]
        os.waitpid(slot.pid, 0)
        self._drop_line(slot)
        if not self._setup["namespaces"]:
            # INVARIANT: nothing of a guest outlives its init, which elsewhere its pid namespace sees to.
            LandlockBoundary(self._setup, slot.body).end_orphans([other.pid for other in self._slots.values()])

    def _drop_line(self, slot: Slot) -> None:
        if slot.line and self._lines.pop(slot.line.fileno(), None):
            self._poll.unregister(slot.line)
            slot.line.close()

    def _send(self, slot: Slot, kind: frames.Kind, body: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        """Tell the slot's init; one that is dead hears nothing, and its server learns of its death."""
        if slot.line and slot.line.fileno() >= 0:
            with contextlib.suppress(frames.Closed):
                frames.send(slot.line, kind, body, descriptors)

    def _tell_of_failure(self, channel: int, failure: StepFailed) -> None:
        with socket.socket(fileno=os.dup(channel)) as answer, contextlib.suppress(frames.Closed):
            frames.send(answer, frames.Kind.FAULT, failure.as_body())
