"""The processes of a slot as its init knows them: the worker, and whatever it leaves behind.

INVARIANT: how the worker ended, and what everyone used, is what ``wait4`` said to the worker's own parent; or, of a
worker that is held at its exit notification, what ``/proc`` says of it.
"""

import contextlib
import os
import select
import signal
import socket
from resource import struct_rusage

from ..protocol import frames
from ..protocol.codec import decode, encode
from ..protocol.launch import SlotSetup
from ..protocol.slot import StepFailure, WorkerEnd, WorkerForked
from . import worker
from .boundary import Boundary
from .procfs import peak_resident_bytes, scheduled_seconds
from .slot_config import SlotConfig
from .step import StepFailed

_LOOK_MILLISECONDS = 100


class ProcessTree:
    """Where init is the worker's parent too (level ``confined``)."""

    def __init__(self, boundary: Boundary) -> None:
        self._boundary = boundary
        self._wakeups = _wake_on_children()
        self.watched = [self._wakeups]
        """Descriptors that become readable when someone may have ended."""
        self.worker = -1
        self.ended: dict[int, int] = {}
        """The wait status of each worker that has ended, by its pid."""
        self._living: set[int] = set()
        self.cpu_seconds = 0.0
        """What those who ended had used, since this worker was started."""
        self.peak_memory_bytes = 0

    @property
    def status(self) -> int | None:
        """The worker's wait status, once it has ended."""
        return self.ended.get(self.worker)

    def start_worker(self, config: SlotConfig, descriptors: list[int]) -> None:
        """Start a worker, the only one; ``descriptors`` are what ``worker.main`` takes."""
        self.worker, self.ended = -1, {}
        self.cpu_seconds, self.peak_memory_bytes = 0.0, 0
        self.worker = self.add_worker(config, descriptors)

    def add_worker(self, config: SlotConfig, descriptors: list[int]) -> int:
        """Start one more worker; its pid, which nobody else has before ``ended`` has forgotten it."""
        pid = self._fork(config, descriptors)
        self._living.add(pid)
        return pid

    def _fork(self, config: SlotConfig, descriptors: list[int]) -> int:
        pid = os.fork()
        if pid == 0:
            worker.main(config, descriptors)
        return pid

    def look(self) -> None:
        """Note everyone who has ended; never waits."""
        _drain(self._wakeups)
        while self._reap(os.WNOHANG):
            pass

    def await_end(self, pid: int) -> None:
        """Return once that worker, which was killed, has ended."""
        poll = select.poll()
        for descriptor in self.watched:
            poll.register(descriptor, select.POLLIN)
        while pid not in self.ended:
            poll.poll(_LOOK_MILLISECONDS)
            self.look()

    def note_leaving(self) -> bool:
        """Note what the worker, which is held at its end, used until now. False when it is dead."""
        seconds, peak_memory_bytes = scheduled_seconds(self.worker), peak_resident_bytes(self.worker)
        if not peak_memory_bytes:
            return False
        self._note(seconds, peak_memory_bytes)
        return True

    def end(self) -> None:
        """Kill everyone and return when nobody is left."""
        while True:
            self._boundary.kill_everyone()
            self._await_workers()
            if not self._reap(0):
                return
            while self._reap(os.WNOHANG):  # all that are dead, before everyone is looked for again
                pass

    def _await_workers(self) -> None:
        """A child of init is reaped like any other."""

    def _reap(self, options: int) -> bool:
        """Collect one dead child. False when there is none."""
        try:
            pid, status, usage = os.wait4(-1, options)
        except ChildProcessError:
            return False
        if pid == 0:
            return False
        self._note(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
        if pid in self._living:
            self._note_end(pid, status)
        return True

    def _note_end(self, pid: int, status: int) -> None:
        self._living.discard(pid)
        self.ended[pid] = status

    def _note(self, cpu_seconds: float, peak_memory_bytes: int) -> None:
        self.cpu_seconds += cpu_seconds
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak_memory_bytes)


class ReparentedProcessTree(ProcessTree):
    """Where the zygote forks the worker into init's namespaces, and reports how it ended; its orphans come to init.

    INVARIANT: init reads what guests left, so nothing is ever forked from it: no guest inherits another's bytes.
    """

    def __init__(self, boundary: Boundary, zygote_channel: socket.socket) -> None:
        super().__init__(boundary)
        self._zygote_channel = zygote_channel
        self._pids: dict[int, int] = {}  # of the living workers, by the zygote's serial number
        self.watched.append(zygote_channel.fileno())

    def _fork(self, config: SlotConfig, descriptors: list[int]) -> int:
        frames.send(self._zygote_channel, frames.Kind.FORK, encode(config.order), tuple(descriptors))
        kind, body, passed = frames.receive(self._zygote_channel)
        while kind is frames.Kind.ENDED:  # another worker has ended meanwhile
            self._note_report(decode(WorkerEnd, body))
            kind, body, passed = frames.receive(self._zygote_channel)
        if kind is not frames.Kind.FORKED:
            failure = decode(StepFailure, body)
            raise StepFailed(failure.step, failure.errno, failure.message)
        serial = decode(WorkerForked, body).serial
        try:
            pid = self._pids[serial] = _pid_behind(passed[0])
        finally:
            os.close(passed[0])
        return pid

    def look(self) -> None:
        """See ``ProcessTree.look``."""
        with contextlib.suppress(BlockingIOError):
            self._receive(socket.MSG_DONTWAIT)
        super().look()

    def _await_workers(self) -> None:
        """Once the zygote has reported the workers' ends, all that they leave behind are init's children."""
        while self._living:
            self._receive(0)

    def _receive(self, flags: int) -> None:
        kind, body, _ = frames.receive(self._zygote_channel, flags)
        if kind is frames.Kind.ENDED:
            self._note_report(decode(WorkerEnd, body))

    def _note_report(self, end: WorkerEnd) -> None:
        self._note(end.cpu_seconds, end.peak_memory_bytes)
        self._note_end(self._pids.pop(end.serial), end.status)


def tree_of(boundary: Boundary, setup: SlotSetup, rest: list[int]) -> tuple[ProcessTree, list[int]]:
    """The tree of a slot, and the cgroups to join; ``rest`` are the descriptors beside the channel to the server."""
    if not setup.namespaces:
        return ProcessTree(boundary), []
    zygote_channel, *cgroups = rest
    return ReparentedProcessTree(boundary, socket.socket(fileno=zygote_channel)), cgroups


def ended(serial: int, status: int, usage: struct_rusage) -> WorkerEnd:
    """What ``wait4`` said of a worker."""
    return WorkerEnd(serial, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _pid_behind(pidfd: int) -> int:
    """The process's number in this pid namespace, whose ``/proc`` is mounted here."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(b"Pid:"))


def _wake_on_children() -> int:
    """A descriptor that becomes readable when a child has ended."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, _nothing)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def _nothing(number: int, frame: object) -> None:
    """A handler, so that the wake-up descriptor is written."""


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass
