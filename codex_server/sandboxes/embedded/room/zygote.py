"""The zygote: PID 1 of the room, a warm interpreter that forks a slot for each ARM frame.

TRUSTED and without secrets. It stays single-threaded, speaks only with the server and exits when the server is gone.
"""

import contextlib
import gc
import importlib.util
import os
import select
import socket
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from . import init, kernel, wire
from .faults import StepFailed, step
from .walls import LandlockWalls

CONTROL = 3


def main() -> None:
    """Warm up, report READY, then serve ARM frames until the server is gone."""
    control = socket.socket(fileno=CONTROL)
    os.set_inheritable(CONTROL, False)
    try:
        _, setup, _ = wire.receive(control)
        agent = _warm_up(setup)
    except StepFailed as failure:
        wire.send(control, wire.Kind.FAULT, failure.as_body())
        sys.exit(1)
    wire.send(control, wire.Kind.READY, {"python": sys.version.split()[0]})
    Zygote(control, setup, agent).serve()


def _warm_up(setup: dict[str, Any]) -> ModuleType:
    with step("zygote"):
        if setup["namespaces"]:
            kernel.drop_bounding_capabilities()
        else:
            kernel.adopt_orphans()
        sys.path[:] = [folder for folder in sys.path if folder not in ("", setup["import_path"])]
        setup["seccomp"] = bytes.fromhex(setup["seccomp"])
        agent = _load_agent(setup["agent"])
        agent.warm()
        gc.collect()
        gc.freeze()  # what is warm now stays out of the collector's way, so children share its pages
        return agent


def _load_agent(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_runner_agent", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Zygote:
    """Forks slots and reaps them."""

    def __init__(self, control: socket.socket, setup: dict[str, Any], agent: ModuleType) -> None:
        self._control = control
        self._setup = setup
        self._agent = agent
        self._slots: dict[int, tuple[int, dict[str, Any]]] = {}  # pidfd -> pid, what it was told
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY) if setup["namespaces"] else -1

    def serve(self) -> None:
        """Serve until the control socket closes: then everything in the room dies with this process."""
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            self._bury(ready)
            if self._control.fileno() in ready and not self._serve_frame():
                return

    def _bury(self, ready: Iterable[int]) -> None:
        for slot in ready:
            if slot in self._slots:
                self._reap(slot)

    def _serve_frame(self) -> bool:
        try:
            kind, body, descriptors = wire.receive(self._control)
        except wire.Closed:
            return False
        if kind is wire.Kind.ARM:
            self._arm(body, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _arm(self, body: dict[str, Any], descriptors: list[int]) -> None:
        """Fork a slot. ``descriptors``: its socket, then the cgroups to join.

        INVARIANT: a dead slot is buried first, with all of its guest: the new one may have its uid.
        """
        self._bury(descriptor for descriptor, _ in self._poll.poll(0))
        try:
            with step("fork"):
                pid = self._fork()
        except StepFailed as failure:
            with socket.socket(fileno=os.dup(descriptors[0])) as channel, contextlib.suppress(wire.Closed):
                wire.send(channel, wire.Kind.FAULT, failure.as_body())
            return
        if pid == 0:
            init.main(self._setup, self._agent, body, descriptors)
        slot = os.pidfd_open(pid)
        self._slots[slot] = pid, body
        self._poll.register(slot, select.POLLIN)

    def _fork(self) -> int:
        if len(os.listdir("/proc/self/task")) != 1:
            raise RuntimeError("the zygote has more than one thread; a fork would lose the others")
        if not self._setup["namespaces"]:
            return os.fork()
        kernel.unshare(kernel.CLONE_NEWPID)  # for the next child; this process stays where it is
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                kernel.setns(self._own_pids, kernel.CLONE_NEWPID)
        return pid

    def _reap(self, slot: int) -> None:
        self._poll.unregister(slot)
        os.close(slot)
        pid, body = self._slots.pop(slot)
        os.waitpid(pid, 0)
        if not self._setup["namespaces"]:
            # INVARIANT: nothing of a guest outlives its init, which elsewhere its pid namespace sees to.
            LandlockWalls(self._setup, body).end_orphans([pid for pid, _ in self._slots.values()])
