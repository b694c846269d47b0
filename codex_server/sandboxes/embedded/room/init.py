"""The slot's init: PID 1 of a slot, TRUSTED. It raises the walls, starts the worker, watches it, and tells its ending.

INVARIANT: every number of the ending comes from the kernel (``waitid``, ``rusage``, clocks), none from the worker.
"""

import contextlib
import gc
import os
import resource
import select
import signal
import socket
import time
from types import ModuleType
from typing import Any, NoReturn

from . import kernel, wire, worker, workspace
from .faults import StepFailed, step
from .orders import Orders
from .walls import LandlockWalls, NamespaceWalls, Walls, cpu_seconds, end_everyone, resident_bytes, scheduled_seconds

SLOT = 3
_TICK_SECONDS = 0.1


def main(setup: dict[str, Any], agent: ModuleType, body: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Be the init of a slot: arm, serve one execution, end. Never returns."""
    walls: Walls = NamespaceWalls(setup, body) if setup["namespaces"] else LandlockWalls(setup, body)
    channel = _take_channel(descriptors[0])
    try:
        with step("init"):
            init = Init(Orders(setup, body, agent, walls), channel)
            init.arm(descriptors[1:])
            init.serve()
    except StepFailed as failure:
        if not isinstance(failure.__cause__, wire.Closed):
            wire.send(channel, wire.Kind.FAULT, failure.as_body())
    finally:
        end_everyone(walls)
        os._exit(0)


def _take_channel(descriptor: int) -> socket.socket:
    os.dup2(descriptor, SLOT, inheritable=False)
    return socket.socket(fileno=SLOT)


class Init:
    """One slot from arming to its ending."""

    def __init__(self, orders: Orders, channel: socket.socket) -> None:
        self._orders = orders
        self._setup = orders.setup
        self._body = orders.body
        self._walls = orders.walls
        self._channel = channel
        self._status: int | None = None
        self._stop: str | None = None
        self._cpu_before = 0.0  # what arming took is not the program's

    def arm(self, cgroups: list[int]) -> None:
        """Raise the walls, start the worker and wait until it waits; then tell the server."""
        gc.disable()  # a collection would touch, and so copy, every page that is shared with the zygote
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        with step("cgroup"):
            for cgroup in cgroups:
                os.write(cgroup, b"0")
        kernel.close_descriptors_from(SLOT + 1)
        self._walls.enter()
        kernel.set_dumpable(False)
        self._wakeups = _wake_on_children()
        with step("worker"):
            self._worker, self._request, servers_ends = self._start_worker()
            self._rehearse()
            _hear_ready(self._request)
        handed = (os.pidfd_open(os.getpid()), *servers_ends)
        wire.send(self._channel, wire.Kind.READY, {}, handed)
        for descriptor in handed:
            os.close(descriptor)

    def _rehearse(self) -> None:
        """Do once, with nothing in it, what a run will do: the page faults of a forked process are paid here."""
        bounds = {"inline_bytes": 0, "inline_total_bytes": 0}
        listing, _ = workspace.collect(workspace.open_folder(self._walls.workspace), {}, bounds)
        payload = os.memfd_create("rehearsal", os.MFD_CLOEXEC)
        header = b'{"file":"","files":[],"args":[],"argv":[],"env":{}}'
        os.write(payload, header)
        workspace.fill(self._walls.workspace, payload, {"header_bytes": len(header)}, self._body["uid"])
        os.close(payload)
        wire.decode(wire.encode(wire.Kind.RESULT, self._result(0, 0.0, listing)))

    def _start_worker(self) -> tuple[int, socket.socket, tuple[int, int, int]]:
        """The worker's pid, the socket to it, and the server's ends of its stdin, stdout and stderr."""
        stdin, stdout, stderr = (self._pipe() for _ in range(3))
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            worker.main(self._orders, theirs, (stdin[0], stdout[1], stderr[1]))
        theirs.close()
        for descriptor in (stdin[0], stdout[1], stderr[1]):
            os.close(descriptor)
        return pid, ours, (stdin[1], stdout[0], stderr[0])

    def _pipe(self) -> tuple[int, int]:
        """A pipe that the worker's uid owns, so that it may open ``/dev/stdout``."""
        reader, writer = os.pipe()
        if self._setup["uid_per_slot"]:
            os.fchown(reader, self._body["uid"], self._body["uid"])
        return reader, writer

    def serve(self) -> None:
        """Wait for the execution, run it to its end, report."""
        if not self._wait_for_request():
            return
        kind, body, descriptors = wire.receive(self._channel)
        if kind is not wire.Kind.RUN:
            return
        with step("workspace"):
            header, written = workspace.fill(self._walls.workspace, descriptors[0], body, self._body["uid"])
            os.close(descriptors[0])
            folder = workspace.open_folder(self._walls.workspace)
        self._set_limits(body)
        self._cpu_before = scheduled_seconds(self._worker) + _own_children_cpu()
        started = time.monotonic()
        self._hand_over(header)
        self._watch(body)
        wall = time.monotonic() - started
        # INVARIANT: nothing of the guest is alive when its workspace is read and its ending told.
        ended = end_everyone(self._walls)
        status = ended[self._worker] if self._status is None else self._status
        if self._stop is None and _ended_for_cpu(status) and _own_children_cpu() >= body["cpu_seconds"]:
            self._stop = "cpu_time"  # by RLIMIT_CPU; a program can also send itself that signal
        with step("collect"):
            listing, content = workspace.collect(folder, written, body)
        kept = (content,) if content is not None else ()
        wire.send(self._channel, wire.Kind.RESULT, self._result(status, wall, listing), kept)
        self._wait_for_goodbye()

    def _wait_for_goodbye(self) -> None:
        """Read what still comes (a STOP that crossed the result) until the server closes the channel.

        INVARIANT: nothing is left unread at the exit, or the kernel would reset the channel and drop the result.
        """
        with contextlib.suppress(wire.Closed):
            while True:
                wire.receive(self._channel)

    def _wait_for_request(self) -> bool:
        """False when the worker died while it waited: then this slot is of no use."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._wakeups, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if self._channel.fileno() in ready:
                return True
            self._reap()
            if self._status is not None:
                return False

    def _set_limits(self, body: dict[str, Any]) -> None:
        # A second above the limit, so that init's own watch, which counts all processes together, comes first.
        seconds = -int(-body["cpu_seconds"] // 1) + 1
        rows = {
            resource.RLIMIT_CPU: (seconds, seconds + 1),
            resource.RLIMIT_FSIZE: (body["file_bytes"],) * 2,
            resource.RLIMIT_NPROC: (body["processes"] + self._setup["process_margin"],) * 2,
        }
        if not self._setup["cgroups"] and body["data_limit"]:
            rows[resource.RLIMIT_DATA] = (body["memory_bytes"],) * 2
        self._walls.limit(self._worker, rows)

    def _hand_over(self, header: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker's wait status tells the rest
            self._request.sendall(header)
        self._request.close()

    def _watch(self, body: dict[str, Any]) -> None:
        """Return when the worker has ended, a limit was passed, or the server said stop."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._wakeups, select.POLLIN)
        due = time.monotonic() + _TICK_SECONDS
        while self._status is None and self._stop is None:
            events = poll.poll(max(0.0, due - time.monotonic()) * 1000)
            if any(descriptor == self._channel.fileno() for descriptor, _ in events):
                self._stop = "asked"
            elif events:
                self._reap()
            # INVARIANT: the limits are looked at however busy the guest keeps its init with dying children.
            if self._status is None and self._stop is None and time.monotonic() >= due:
                self._stop = self._passed_limit(body)
                due = time.monotonic() + _TICK_SECONDS

    def _passed_limit(self, body: dict[str, Any]) -> str | None:
        pids = list(self._walls.members())
        if _own_children_cpu() + sum(map(cpu_seconds, pids)) > body["cpu_seconds"]:
            return "cpu_time"
        if not self._setup["cgroups"] and self._memory_passed(pids, body["memory_bytes"]):
            return "memory"
        return None

    def _memory_passed(self, pids: list[int], limit: int) -> bool:
        stored = self._walls.stored_bytes()
        if stored + sum(resident_bytes(pid, shared_fairly=False) for pid in pids) <= limit:
            return False
        return stored + sum(resident_bytes(pid, shared_fairly=True) for pid in pids) > limit

    def _reap(self) -> None:
        """Collect every dead child; remember how the worker ended."""
        _drain(self._wakeups)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._worker:
                self._status = status

    def _result(self, status: int, wall: float, listing: dict[str, Any]) -> dict[str, Any]:
        return {
            "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            "stop": self._stop,
            "wall_seconds": wall,
            "cpu_seconds": max(0.0, _own_children_cpu() - self._cpu_before),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
            **listing,
        }


def _hear_ready(request: socket.socket) -> None:
    word = request.recv(4096)
    if word != worker.READY:
        raise RuntimeError(word.decode("utf-8", "replace") or "it ended while it was armed")


def _ended_for_cpu(status: int) -> bool:
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU


def _own_children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _wake_on_children() -> int:
    """A descriptor that becomes readable when a child has ended."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, _nothing)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def _nothing(number: int, frame: object) -> None:
    """A handler, so that the wake-up descriptor is written."""


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass
