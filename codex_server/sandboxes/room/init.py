"""The slot's init: PID 1 of a slot, TRUSTED. It raises the walls, has a worker started, watches it, tells its ending.

It serves one execution after another, each in a worker, files, network and ipc namespace of its own; a slot in which
anything was out of the ordinary is thrown away. At level ``confined`` it serves one.
INVARIANT: every number of the ending comes from the kernel (``wait4``, a farewell's registers, clocks), none from the
worker.
"""

import contextlib
import fcntl
import gc
import os
import resource
import select
import signal
import socket
import time
from dataclasses import replace
from types import ModuleType
from typing import Any, NoReturn

from . import kernel, notices, wire, worker, workspace
from .family import AdoptedFamily, Family
from .faults import StepFailed, step
from .locks import PAUSE_SECONDS, LockService
from .orders import Orders
from .procfs import cpu_seconds, resident_bytes, scheduled_seconds
from .walls import NamespaceWalls, Walls, walls_of

SLOT = 3
_TICK_SECONDS = 0.1
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
            _, body, _ = wire.receive(channel)
    except wire.Closed:
        os._exit(0)
    init = Init(setup, agent, body, channel, rest)
    try:
        with step("init"):
            init.serve()
    except StepFailed as failure:
        if not isinstance(failure.__cause__, wire.Closed):
            with contextlib.suppress(wire.Closed):
                wire.send(init.channel, wire.Kind.FAULT, failure.as_body())
    finally:
        init.family.end()
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
        walls: Walls | None = None,
    ) -> None:
        self._setup = setup
        self.channel = channel
        self._walls = walls or walls_of(setup, body)
        self._orders = Orders(setup, body, agent, self._walls)
        self.family: Family
        if setup["namespaces"]:
            line, *self._cgroups = rest
            self.family = AdoptedFamily(self._walls, socket.socket(fileno=line))
        else:
            self.family, self._cgroups = Family(self._walls), []
        self._stop: str | None = None
        self._listener = -1  # for the worker's notices; none where the kernel offers none
        self._farewell: notices.Notice | None = None
        self._locks = LockService(lambda notice, error: notices.answer(self._listener, notice, error))
        self._cpu_before = 0.0  # what arming took is not the program's
        self._rehearsed = False

    def serve(self) -> None:
        """Serve executions until the server closes the channel, or asks for none after the first (``confined``)."""
        self._enter()
        own: tuple[int, ...] = (os.pidfd_open(os.getpid()),)
        while True:
            self._arm(own)
            if not self._serve_execution():
                return
            if isinstance(self._walls, NamespaceWalls):
                self._walls.renew()
            body = self._next_order()
            if body is None:
                return
            self._orders, own = replace(self._orders, body=body), ()

    def _enter(self) -> None:
        """Raise the walls, before anything of a guest exists."""
        gc.disable()  # a collection would touch, and so copy, every page that is shared with the zygote
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        with step("cgroup"):
            for cgroup in self._cgroups:
                os.write(cgroup, b"0")
        self._walls.enter()
        kernel.set_dumpable(False)
        self._poll = select.poll()
        for descriptor in (SLOT, *self.family.watched):
            self._poll.register(descriptor, select.POLLIN)

    def _arm(self, own: tuple[int, ...]) -> None:
        """Have a worker started, wait until it waits, then tell the server.

        ``own``: init's pidfd, the first time, for a server that is beside it.
        """
        with step("worker"):
            servers_ends = self._start_worker()
            if not self._rehearsed:
                self._rehearse()
            self._listener, heard = _hear_ready(self._request)
        if self._listener < 0 or any(notice.is_of(notices.INTERNET) for notice in heard):
            self._walls.note_internet()
        wire.send(self.channel, wire.Kind.READY, {}, own + servers_ends)
        for descriptor in own + servers_ends:
            os.close(descriptor)

    def _rehearse(self) -> None:
        """Do once, with nothing in it, what a run will do: the page faults of a forked process are paid here."""
        bounds = {"inline_bytes": 0, "inline_total_bytes": 0}
        listing, _ = workspace.collect(workspace.open_folder(self._walls.workspace), {}, bounds)
        payload = os.memfd_create("rehearsal", os.MFD_CLOEXEC)
        header = b'{"file":"","files":[],"args":[],"argv":[],"env":{}}'
        os.write(payload, header)
        workspace.fill(self._walls.workspace, payload, {"header_bytes": len(header)}, self._orders.body["uid"])
        os.close(payload)
        wire.decode(wire.encode(wire.Kind.RESULT, self._result(0.0, listing)))
        self._rehearsed = True

    def _start_worker(self) -> tuple[int, int, int]:
        """The server's ends of the worker's stdin, stdout and stderr."""
        stdin, stdout, stderr = (self._pipe() for _ in range(3))
        self._request, theirs = socket.socketpair()
        handed = [theirs.fileno(), stdin[0], stdout[1], stderr[1]]
        self.family.start_worker(self._orders, [*handed, *self._cgroups])
        theirs.close()
        for descriptor in handed[1:]:
            os.close(descriptor)
        return stdin[1], stdout[0], stderr[0]

    def _pipe(self) -> tuple[int, int]:
        """A pipe that the worker's uid owns, so that it may open ``/dev/stdout``."""
        reader, writer = os.pipe()
        if self._setup["uid_per_slot"]:
            os.fchown(reader, self._orders.body["uid"], self._orders.body["uid"])
        return reader, writer

    def _serve_execution(self) -> bool:
        """Wait for the execution, run it to its end, report. False when none came."""
        if not self._wait_for_request():
            return False
        kind, body, descriptors = wire.receive(self.channel)
        if kind is not wire.Kind.RUN:
            return False
        with step("workspace"):
            header, written = workspace.fill(self._walls.workspace, descriptors[0], body, self._orders.body["uid"])
            os.close(descriptors[0])
            folder = workspace.open_folder(self._walls.workspace)
        self._set_limits(body)
        self._stop = self._farewell = None
        self._cpu_before = scheduled_seconds(self.family.worker)
        started = time.monotonic()
        self._hand_over(header)
        self._watch(body)
        wall = time.monotonic() - started
        # INVARIANT: nothing of the guest can run any more when its workspace is read and its ending told.
        if not (self._farewell and self._nobody_runs()):
            self.family.end()
        if self._stop is None and self._ended_for_cpu(body):
            self._stop = "cpu_time"  # by RLIMIT_CPU; a program can also send itself that signal
        with step("collect"):
            listing, content = workspace.collect(folder, written, body)
        kept = (content,) if content is not None else ()
        wire.send(self.channel, wire.Kind.RESULT, self._result(wall, listing), kept)
        for descriptor in kept:
            os.close(descriptor)
        return self._bury()

    def _bury(self) -> bool:
        """Have everyone dead. False when the worker left its farewell by another death than ours: not to be trusted."""
        self.family.end()
        if self._listener >= 0:
            with contextlib.suppress(KeyError):  # no longer, where everyone was seen to leave
                self._poll.unregister(self._listener)
            os.close(self._listener)
            self._listener = -1
        return self._farewell is None or self.family.status == signal.SIGKILL

    def _next_order(self) -> dict[str, Any] | None:
        """The order to be armed again, or None when the server has closed the channel.

        A STOP that crossed the result is passed over.
        INVARIANT: nothing is left unread at the exit, or the kernel would reset the channel and drop the result.
        """
        try:
            while True:
                kind, body, _ = wire.receive(self.channel)
                if kind is wire.Kind.ARM:
                    return body
        except wire.Closed:
            return None

    def _wait_for_request(self) -> bool:
        """False when the worker died while it waited: then this slot is of no use."""
        while True:
            if any(descriptor == SLOT for descriptor, _ in self._poll.poll()):
                return True
            self.family.look()
            if self.family.status is not None:
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
        self._walls.limit(self.family.worker, rows)

    def _hand_over(self, header: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker's wait status tells the rest
            self._request.sendall(header)
        self._request.close()

    def _watch(self, body: dict[str, Any]) -> None:
        """Return when the worker has ended, a limit was passed, or the server said stop."""
        due = time.monotonic() + _TICK_SECONDS
        if self._listener >= 0:
            self._poll.register(self._listener, select.POLLIN)
        while self.family.status is None and self._stop is None and self._farewell is None:
            pause = PAUSE_SECONDS if self._locks.waits else max(0.0, due - time.monotonic())
            events = dict(self._poll.poll(pause * 1000))
            if SLOT in events:
                self._stop = "asked"
            elif self._listener in events:
                self._hear_farewell(events[self._listener])
            elif events:
                self.family.look()
            self._locks.serve_waiting()
            # INVARIANT: the limits are looked at however busy the guest keeps its init with dying children.
            if self.family.status is None and self._stop is None and time.monotonic() >= due:
                self._stop = self._passed_limit(body)
                due = time.monotonic() + _TICK_SECONDS

    def _hear_farewell(self, events: int) -> None:
        """The worker's is its ending; anybody else's only one of its threads' or children's."""
        if notices.all_left(events):
            self._poll.unregister(self._listener)
            return
        heard = notices.hear(self._listener)
        if heard is None:
            return
        if heard.is_of(notices.INTERNET):
            self._walls.note_internet()
        if heard.is_of(notices.LOCKS):
            self._locks.serve(heard)
        elif not heard.is_of(notices.END):
            notices.let_go(self._listener, heard)
        elif heard.caller == self.family.worker and (self._is_alone() or self._setup["cgroups"]):
            self._farewell = heard
        else:
            notices.let_go(self._listener, heard)

    def _is_alone(self) -> bool:
        """Whether there never was another process or thread since the worker, which is still there."""
        return isinstance(self._walls, NamespaceWalls) and self._walls.newest() == self.family.worker

    def _nobody_runs(self) -> bool:
        """Whether nothing of the guest can run any more although the worker, which said farewell, is not yet dead.

        INVARIANT: the worker's first thread is held, so where it is alone nobody runs; elsewhere everyone is killed.
        """
        if self._is_alone():
            return self.family.note_leaving()
        self._walls.kill_everyone()
        wakeups = select.poll()
        for descriptor in (self._listener, *self.family.watched):
            wakeups.register(descriptor, select.POLLIN)
        while self.family.status is None:
            if notices.all_left(dict(wakeups.poll()).get(self._listener, 0)):
                return True
            self.family.look()
        return False

    def _passed_limit(self, body: dict[str, Any]) -> str | None:
        pids = list(self._walls.members())
        if self._used_seconds() + sum(map(cpu_seconds, pids)) > body["cpu_seconds"]:
            return "cpu_time"
        if not self._setup["cgroups"] and self._memory_passed(pids, body["memory_bytes"]):
            return "memory"
        return None

    def _used_seconds(self) -> float:
        """What those who ended used since the hand-over."""
        return self.family.cpu_seconds - self._cpu_before

    def _ended_for_cpu(self, body: dict[str, Any]) -> bool:
        status = self.family.status or 0
        by_limit = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        return by_limit and self._used_seconds() >= body["cpu_seconds"]

    def _memory_passed(self, pids: list[int], limit: int) -> bool:
        stored = self._walls.stored_bytes()
        if stored + sum(resident_bytes(pid, shared_fairly=False) for pid in pids) <= limit:
            return False
        return stored + sum(resident_bytes(pid, shared_fairly=True) for pid in pids) > limit

    def _result(self, wall: float, listing: dict[str, Any]) -> dict[str, Any]:
        status = (self._farewell.code << 8 if self._farewell else self.family.status) or 0
        return {
            "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            "stop": self._stop,
            "wall_seconds": wall,
            "cpu_seconds": max(0.0, self._used_seconds()),
            "peak_memory_bytes": self.family.peak_memory_bytes,
            **listing,
        }


def _hear_ready(request: socket.socket) -> tuple[int, list[notices.Notice]]:
    """Wait until the worker waits; the listener for its notices, or -1, and those that came until then, let go."""
    word, listeners, _, _ = socket.recv_fds(request, 4096, 1, socket.MSG_CMSG_CLOEXEC)
    heard: list[notices.Notice] = []
    if word == notices.WORD:
        poll = select.poll()
        for descriptor in (request.fileno(), listeners[0]):
            poll.register(descriptor, select.POLLIN)
        while not any(descriptor == request.fileno() for descriptor, _ in poll.poll()):
            if notice := notices.hear(listeners[0]):
                heard.append(notice)
                notices.let_go(listeners[0], notice)
        word = request.recv(4096)
    if word != worker.READY:
        raise RuntimeError(word.decode("utf-8", "replace") or "it ended while it was armed")
    return (listeners[0] if listeners else -1), heard
