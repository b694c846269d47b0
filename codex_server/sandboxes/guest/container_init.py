"""PID 1 of a container: TRUSTED. The same init as in a slot; the container is its boundary.

It serves one execution, or the cells of a session (``container_session.py``).

INVARIANT: no guest can kill it, look into it or change its limits: signals from inside do not reach PID 1, it is not
dumpable, and the guest's system call filter refuses ``prlimit`` and ``ptrace`` on others.
"""

import fcntl
import gc
import glob
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

from ..protocol import frames, stream
from ..protocol.codec import decode, encode
from ..protocol.launch import ContainerLaunch, ImageContents, ImageProbe, ProgramFound, SlotSetup
from ..protocol.run import RunOrder, StopReason
from ..protocol.slot import SlotOrder
from . import container_workspace
from .boundary import Boundary, ContainerBoundary
from .bounds import Bounds, Usage
from .cgroup_accounting import CgroupAccounting
from .container_session import serve_session
from .init import Init
from .process_tree import ProcessTree
from .relay import Relay
from .slot_template import Filters, SlotTemplate, load_agent
from .step import StepFailed, step
from .watch import SLOT

_MOST_IN_SETUP = 2**20
_PROBE_SECONDS = 20
_OUT_OF_THE_WAY = 64
_PYTHON_PACKAGES = "/opt/python-packages"
_NODE_PACKAGES = "/node_modules/.package-lock.json"


def main() -> None:
    """Do what the first frame on stdin requests: LAUNCH serves an execution, PROBE reports what is in the image."""
    kind, body = _first_frame()
    try:
        if kind is frames.Kind.PROBE:
            with step("probe"):
                contents = _contents(decode(ImageProbe, body))
            _send(frames.Kind.READY, encode(contents))
            return
        with step("container"):
            _serve(decode(ContainerLaunch, body))
    except StepFailed as failure:
        _send(frames.Kind.FAULT, encode(failure.as_message))
        sys.exit(1)


def _first_frame() -> tuple[frames.Kind, frames.Body]:
    unpacker = stream.Unpacker(_MOST_IN_SETUP)
    while data := os.read(0, 2**16):
        for kind, body, _ in unpacker.feed(data):
            return kind, body  # the server sends nothing more before READY
    sys.exit(0)  # the server is gone


def _send(kind: frames.Kind, body: frames.Body) -> None:
    os.write(1, stream.pack(kind, body))


def _serve(launch: ContainerLaunch) -> None:
    setup = launch.setup
    filters = Filters(
        seccomp=bytes.fromhex(setup.seccomp),
        of_sessions=bytes.fromhex(setup.seccomp_of_sessions),
        of_workspaces=bytes.fromhex(setup.seccomp_of_workspaces),
    )
    if launch.workspace:
        container_workspace.check(launch.workspace)
    template = SlotTemplate(setup, _warm_up(setup), filters)
    channel = _channel()
    # The engine has given this container its uid.
    order = SlotOrder(os.getuid(), launch.agent, launch.env, folder=None, number=0, stdio=launch.stdio)
    if launch.session:
        named = container_workspace.WORKSPACE if launch.workspace else None
        serve_session(template, replace(order, role="session", workspace=named), channel, socket.socket(fileno=SLOT))
    else:
        ContainerInit(template, order, socket.socket(fileno=SLOT)).serve_once(Relay(channel).run)


def _channel() -> socket.socket:
    """The relay's end of a channel to init, whose own end is at its usual number."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    init, relay = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for end in ends)
    for end in ends:
        end.close()
    os.dup2(init, SLOT, inheritable=False)
    os.close(init)
    return socket.socket(fileno=relay)


def _warm_up(setup: SlotSetup) -> ModuleType:
    sys.path[:] = [folder for folder in sys.path if folder not in ("", setup.import_path)]
    if setup.agent:
        agent = load_agent(setup.agent)
        agent.warm(setup.preload)
    else:
        agent = _nothing_to_warm()
    gc.collect()
    gc.freeze()
    return agent


def _nothing_to_warm() -> ModuleType:
    """The agent of a runner whose programs are started anew: nothing is prepared for them."""
    agent = ModuleType("no_agent")
    agent.warm_up = lambda: None  # type: ignore[attr-defined]
    return agent


class ContainerBounds(Bounds):
    """What was used is what the container's cgroup has counted."""

    def __init__(self, setup: SlotSetup, boundary: Boundary, process_tree: ProcessTree) -> None:
        super().__init__(setup, boundary, process_tree)
        self._accounting = CgroupAccounting.open()
        self._most_stored = 0

    def begin(self, order: RunOrder) -> None:
        """See ``Bounds.begin``."""
        super().begin(order)
        self._accounting.begin()

    def passed(self) -> StopReason | None:
        """See ``Bounds.passed``."""
        used = self._accounting.cpu_seconds()
        if used is not None and used > self._order.cpu_seconds:
            return "cpu_time"
        stored = self._boundary.stored_bytes()
        self._most_stored = max(self._most_stored, stored)
        return "memory" if stored > self._order.memory_bytes else super().passed()

    def usage(self) -> Usage:
        """See ``Bounds.usage``; with version 1 what sockets held is added to the peak of memory."""
        seen, counted = super().usage(), self._accounting.counted()
        peak = int(counted.get("peak_memory_bytes", seen.peak_memory_bytes))
        return Usage(
            cpu_seconds=counted.get("cpu_seconds", seen.cpu_seconds),
            peak_memory_bytes=peak + (self._most_stored if self._accounting.leaves_sockets_out else 0),
            oom_kills=int(counted.get("oom_kills", seen.oom_kills)),
        )


class ContainerInit(Init):
    """Init where a container is the boundary: it serves one execution."""

    def __init__(self, template: SlotTemplate, order: SlotOrder, channel: socket.socket) -> None:
        super().__init__(template, order, channel, [], boundary=ContainerBoundary())

    def _make_bounds(self) -> Bounds:
        return ContainerBounds(self._setup, self._boundary, self.process_tree)

    def serve_once(self, relay: Callable[[], None]) -> None:
        """Be armed, serve, and wait for the end. ``relay`` runs beside it, once nothing is forked any more."""
        self._enter()
        self._arm(())
        threading.Thread(target=relay).start()
        self._serve_execution()


def _contents(probe: ImageProbe) -> ImageContents:
    programs = {name: _find(*argv) for name, argv in probe.questions.items()}
    return ImageContents(programs, tuple(_python_packages()), tuple(_node_packages()))


def _python_packages() -> list[tuple[str, str]]:
    folders = glob.glob(f"{_PYTHON_PACKAGES}/lib/python3*/site-packages")
    found = importlib.metadata.distributions(path=folders) if folders else ()
    return sorted((package.metadata["Name"], package.version) for package in found)


def _node_packages() -> list[tuple[str, str]]:
    try:
        with open(_NODE_PACKAGES, encoding="utf-8") as file:
            found: dict[str, dict[str, str]] = json.load(file)["packages"]
    except FileNotFoundError:
        return []
    return sorted((path.rpartition("node_modules/")[2], facts["version"]) for path, facts in found.items())


def _find(program: str, *args: str) -> ProgramFound | None:
    path = shutil.which("python3" if program == "python" else program)
    if path is None:
        return None
    try:
        answer = subprocess.run(
            [path, *args],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ProgramFound(path, (answer.stdout + answer.stderr)[:2000])
