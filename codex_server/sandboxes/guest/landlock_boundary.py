"""The boundary of level ``confined``: no namespaces, but Landlock, seccomp, and an init that finds all it adopted."""

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Collection, Iterable, Iterator

from ..protocol.launch import LandlockSetup
from ..protocol.slot import SlotOrder
from . import kernel, landlock, workspace
from .credentials import take_uid
from .named_folders import open_pinned, pinned
from .procfs import children
from .signals import hold, send, send_by_pidfd
from .step import step


class LandlockBoundary:
    """No namespaces: Landlock and seccomp bound what the worker reaches; init adopts its processes and finds them all.

    ``uid`` is the guest's, ``own_uid`` whether nobody else has it. The zygote, which ends leftovers, has no ``order``.
    """

    def __init__(self, landlock: LandlockSetup, uid: int, *, own_uid: bool, order: SlotOrder | None = None) -> None:
        self._landlock = landlock
        self._uid = uid
        self._own_uid = own_uid
        self.folder = (order and order.folder) or ""
        self._pin = order.pin if order else None
        self.workspace = (order and order.workspace) or os.path.join(self.folder, "workspace")
        self.temp = os.path.join(self.folder, "tmp")
        self.inputs = os.path.join(self.folder, ".stdin")
        self._opened_temp = self._top = -1

    @property
    def own_folders(self) -> list[str]:
        """The folders whose files the guest may change, without links, as they lie now."""
        own = [os.path.realpath(self.temp)]
        return own if self._pin and self._pin.read_only else [*own, os.readlink(f"/proc/self/fd/{self._top}")]

    def open_workspace(self) -> int:
        """See ``PidNamespace.open_workspace``."""
        return os.dup(self._top)

    def make_inputs(self) -> None:
        """See ``PidNamespace.make_inputs``. INVARIANT: the guest may not write to the folder that it is in."""
        os.mkdir(self.inputs, 0o755)

    def signal(self, pids: Iterable[int], number: int) -> None:
        """See ``PidNamespace.signal``; a container's root may not signal another uid, that uid itself may."""
        if not self._own_uid:
            send(pids, number)
        elif chosen := list(pids):
            self._as_guest(lambda: send(chosen, number))

    def stop_everyone(self) -> None:
        """See ``PidNamespace.stop_everyone``; where others have the uid too, one after the other."""
        self.signal([-1] if self._own_uid else list(self.members()), signal.SIGSTOP)

    def enter(self) -> None:
        """Adopt every orphan of the slot, and make the slot's own folders.

        INVARIANT: what is in ``folder`` cannot be moved or replaced: it stays the server's, the guest's group may only
        enter it, and Landlock grants no writing there. A later interpreter's rules name the same folders.
        """
        with step("slot-folders"):
            kernel.adopt_orphans()
            for folder in (self.temp,) if self._pin else (self.workspace, self.temp):
                os.mkdir(folder, 0o700)
                os.chown(folder, self._uid, self._uid)
            os.chown(self.folder, -1, self._uid)
            os.chmod(self.folder, 0o750)  # noqa: S103 - the group is the guest's own
            self._opened_temp = workspace.open_folder(self.temp)
        self._top = open_pinned(self.workspace, self._pin) if self._pin else workspace.open_folder(self.workspace)

    def used_temp(self) -> int | None:
        """See ``PidNamespace.used_temp``."""
        return self._opened_temp

    def confine_worker(self) -> None:
        """In the worker, before its system calls are filtered."""
        seen, own = [*self._landlock.readable, self.folder], [self.temp, *self._landlock.writable_devices]
        with pinned(self.workspace, self._pin) as top:
            given = f"/proc/self/fd/{top}" if self._pin else self.workspace
            (seen if self._pin and self._pin.read_only else own).append(given)
            landlock.restrict(read_only=seen, read_write=own)

    def limit(self, worker: int, limits: dict[int, tuple[int, int]]) -> None:
        """Set the worker's resource limits; a container's root may not do that to another uid, that uid itself may."""
        if self._own_uid:
            self._as_guest(lambda: _set_limits(worker, limits))
        else:
            _set_limits(worker, limits)

    def kill_everyone(self) -> None:
        """Kill everything in the slot: what has its uid at one stroke, or else one descendant after the other."""
        if self._own_uid:
            self._as_guest(lambda: os.kill(-1, signal.SIGKILL))
        else:
            self._kill_tree()

    def _as_guest(self, action: Callable[[], None]) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                take_uid(self._uid)
                with contextlib.suppress(ProcessLookupError):
                    action()
            except OSError as error:
                os._exit(error.errno or 1)
            finally:
                os._exit(0)
        failure = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if failure > 0:
            raise OSError(failure, os.strerror(failure))

    def _kill_tree(self, below: Collection[int] = ()) -> None:
        """Stop every process and keep it from forking, until no other is found; then kill them all.

        INVARIANT: none is killed before all stand still, or those that still run would fork into the places freed.
        """
        still: dict[int, int] = {}  # pid -> pidfd
        try:
            while fresh := set(self.members(below)) - still.keys():
                for pid in fresh:
                    still[pid] = hold(pid, fresh | still.keys() | {os.getpid()})
            for pidfd in still.values():
                send_by_pidfd(pidfd, signal.SIGKILL)
        finally:
            for pidfd in still.values():
                if pidfd >= 0:
                    os.close(pidfd)

    def end_orphans(self, spared: Collection[int]) -> None:
        """In the zygote, their reaper: end what an init that was killed left behind; ``spared`` are the other inits."""
        while orphans := [pid for pid in children(os.getpid()) if pid not in spared and self._is_of_this_slot(pid)]:
            if self._own_uid:
                self.kill_everyone()
            else:
                self._kill_tree(orphans)
            for pid in orphans:
                os.waitpid(pid, 0)

    def _is_of_this_slot(self, pid: int) -> bool:
        return not self._own_uid or os.stat(f"/proc/{pid}").st_uid == self._uid

    def members(self, below: Collection[int] = ()) -> Iterator[int]:
        """The pids of all descendants, or of those ``below`` some of them with these."""
        yield from below
        waiting = list(below) or [os.getpid()]
        while waiting:
            for pid in children(waiting.pop()):
                waiting.append(pid)
                yield pid

    def note_internet(self) -> None:
        """Nothing: there are no such sockets here."""

    def route_sockets(self) -> int:
        """None: there are no such sockets here."""
        return 0

    def uncharged_bytes(self) -> int:
        """None: there are no such sockets here."""
        return 0

    def stored_bytes(self) -> int:
        """Nothing: files are on the host's disk here."""
        return 0

    def file_bytes(self) -> int | None:
        """See ``PidNamespace.file_bytes``."""
        return None


def _set_limits(pid: int, limits: dict[int, tuple[int, int]]) -> None:
    for limit, value in limits.items():
        resource.prlimit(pid, limit, value)
