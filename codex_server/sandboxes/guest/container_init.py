"""PID 1 of a container: TRUSTED. The same init as in a slot; the container is its boundary. It serves one execution.

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
from types import ModuleType
from typing import Any

from ..protocol import frames, stream
from .boundary import Boundary, ContainerBoundary
from .bounds import Bounds
from .cgroup_accounting import CgroupAccounting
from .init import Init
from .process_tree import ProcessTree
from .relay import Relay
from .step import StepFailed, step
from .watch import SLOT
from .zygote import load_agent

_MOST_IN_SETUP = 2**20
_PROBE_SECONDS = 20
_OUT_OF_THE_WAY = 64
_PYTHON_PACKAGES = "/opt/python-packages"
_NODE_PACKAGES = "/node_modules/.package-lock.json"


def main() -> None:
    """Do what the first frame on stdin asks for: LAUNCH serves an execution, PROBE tells what is in the image."""
    kind, body = _first_frame()
    try:
        if kind is frames.Kind.PROBE:
            _tell(frames.Kind.READY, _probe(body))
            return
        with step("container"):
            _serve(body["setup"], body["slot"])
    except StepFailed as failure:
        _tell(frames.Kind.FAULT, failure.as_body())
        sys.exit(1)


def _first_frame() -> tuple[frames.Kind, dict[str, Any]]:
    frames = stream.Unpacker(_MOST_IN_SETUP)
    while data := os.read(0, 2**16):
        for kind, body, _ in frames.feed(data):
            return kind, body  # the server says nothing more before it has heard READY
    sys.exit(0)  # the server is gone


def _tell(kind: frames.Kind, body: dict[str, Any]) -> None:
    os.write(1, stream.pack(kind, body))


def _serve(setup: dict[str, Any], slot: dict[str, Any]) -> None:
    setup["seccomp"] = bytes.fromhex(setup["seccomp"])
    agent = _warm_up(setup)
    relay = Relay(_channel())
    body = slot | {"uid": os.getuid()}  # the engine has given this container its id
    ContainerInit(setup, agent, body, socket.socket(fileno=SLOT)).serve_once(relay.run)


def _channel() -> socket.socket:
    """The relay's end of a channel to init, whose own end is at its usual number."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    init, relay = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for end in ends)
    for end in ends:
        end.close()
    os.dup2(init, SLOT, inheritable=False)
    os.close(init)
    return socket.socket(fileno=relay)


def _warm_up(setup: dict[str, Any]) -> ModuleType:
    sys.path[:] = [folder for folder in sys.path if folder not in ("", setup["import_path"])]
    if setup["agent"]:
        agent = load_agent(setup["agent"])
        agent.warm(setup["preload"])
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

    def __init__(self, setup: dict[str, Any], boundary: Boundary, process_tree: ProcessTree) -> None:
        super().__init__(setup, boundary, process_tree)
        self._accounting = CgroupAccounting.open()
        self._most_stored = 0

    def begin(self, body: dict[str, Any]) -> None:
        """See ``Bounds.begin``."""
        super().begin(body)
        self._accounting.begin()

    def passed(self) -> str | None:
        """See ``Bounds.passed``."""
        used = self._accounting.cpu_seconds()
        if used is not None and used > self._body["cpu_seconds"]:
            return "cpu_time"
        stored = self._boundary.stored_bytes()
        self._most_stored = max(self._most_stored, stored)
        return "memory" if stored > self._body["memory_bytes"] else super().passed()

    def counted(self) -> dict[str, Any]:
        """See ``Bounds.counted``; with version 1 what sockets held is added to the peak of memory."""
        counted = super().counted() | self._accounting.counted()
        if self._accounting.leaves_sockets_out:
            counted["peak_memory_bytes"] += self._most_stored
        return counted


class ContainerInit(Init):
    """Init where a container is the boundary: it serves one execution."""

    def __init__(self, setup: dict[str, Any], agent: ModuleType, body: dict[str, Any], channel: socket.socket) -> None:
        super().__init__(setup, agent, body, channel, [], boundary=ContainerBoundary())

    def _make_bounds(self) -> Bounds:
        return ContainerBounds(self._setup, self._boundary, self.process_tree)

    def serve_once(self, relay: Callable[[], None]) -> None:
        """Be armed, serve, and wait for the end. ``relay`` runs beside it, once nothing is forked any more."""
        self._enter()
        self._arm(())
        threading.Thread(target=relay).start()
        self._serve_execution()


def _probe(body: dict[str, Any]) -> dict[str, Any]:
    """For each question by name: the program's path and what it answers, None where the image has no such program;
    and the names and versions of the packages that pip and npm have installed for programs.
    """
    asked: dict[str, list[str]] = body["questions"]
    return {
        "answers": {name: _ask(*argv) for name, argv in asked.items()},
        "packages": {"pip": _python_packages(), "npm": _node_packages()},
    }


def _python_packages() -> list[list[str]]:
    folders = glob.glob(f"{_PYTHON_PACKAGES}/lib/python3*/site-packages")
    found = importlib.metadata.distributions(path=folders) if folders else ()
    return sorted([package.metadata["Name"], package.version] for package in found)


def _node_packages() -> list[list[str]]:
    try:
        with open(_NODE_PACKAGES, encoding="utf-8") as file:
            found: dict[str, dict[str, str]] = json.load(file)["packages"]
    except FileNotFoundError:
        return []
    return sorted([path.rpartition("node_modules/")[2], facts["version"]] for path, facts in found.items())


def _ask(program: str, *args: str) -> dict[str, str] | None:
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
    return {"path": path, "answer": (answer.stdout + answer.stderr)[:2000]}
