"""What stands around a slot, at each isolation level: how to raise it, and how to kill everything inside."""

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterable, Iterator

from ..protocol.launch import NamespaceSetup
from ..protocol.slot import SlotOrder
from . import devices, kernel, overlay, terminal, workspace
from .file_systems import content_bytes, inode_bytes, look_of
from .landlock_boundary import LandlockBoundary
from .signals import send
from .slot_template import SlotTemplate
from .sockets import queued_bytes, waiting_routes
from .step import step

SLOT_NAMESPACES = (
    kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP
)
_TMPFS = kernel.MS_NOSUID | kernel.MS_NODEV
_SHM = "/dev/shm"  # noqa: S108
_TEMP = "/tmp"  # noqa: S108
_FOLDERS = ("/workspace", _TEMP, _SHM)


class PidNamespace:
    """What init can do because it is PID 1, whoever made the namespace."""

    workspace = "/workspace"
    inputs = "/tmp/.stdin"  # noqa: S108
    """Where a session lays the standard input of its cells, for the guest to open."""

    folders_in_memory: tuple[str, ...] = _FOLDERS
    """Those that the guest may write to and that no disk holds."""

    def open_workspace(self) -> int:
        """The workspace, opened."""
        return workspace.open_folder(self.workspace)

    def make_inputs(self) -> None:
        """Make that folder."""
        os.mkdir(self.inputs, 0o755)

    def signal(self, pids: Iterable[int], number: int) -> None:
        """Send a signal to those of ``pids`` that are there; a negative one is a process group."""
        send(pids, number)

    def stop_everyone(self) -> None:
        """Have everyone else stop, at one stroke: nobody can fork any more whom this does not reach."""
        self.signal([-1], signal.SIGSTOP)

    def confine_worker(self) -> None:
        """Nothing more: the namespaces were there before the worker."""

    def limit(self, worker: int, limits: dict[int, tuple[int, int]]) -> None:
        """Set the worker's resource limits."""
        for limit, value in limits.items():
            resource.prlimit(worker, limit, value)

    def kill_everyone(self) -> None:
        """Kill every other process inside: to PID 1, ``-1`` is all of its namespace."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)

    def used_temp(self) -> int | None:
        """The folder for temporary files, opened; None where nothing was made in it."""
        return workspace.open_folder(_TEMP)

    def file_bytes(self) -> int | None:
        """Bytes of memory that the guest's files and their inodes take; None where all are on the host's disk."""
        return content_bytes(self.folders_in_memory) + inode_bytes(self.folders_in_memory)

    def members(self) -> Iterator[int]:
        """The pids inside, without init's."""
        return (int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1")


class NamespaceBoundary(PidNamespace):
    """Own pid, mount, network, ipc, uts and cgroup namespaces; init is PID 1 in them, and has every privilege there."""

    inputs = "/run"

    def __init__(self, template: SlotTemplate, namespaces: NamespaceSetup, order: SlotOrder) -> None:
        self._overlay = template.overlay
        self._workspace_bytes = template.setup.workspace_bytes
        self._namespaces = namespaces
        self._uid = order.uid
        self._unused: dict[str, tuple[object, ...]] = {}  # folder -> what it looks like when nobody has used it
        self._internet_used = False
        self._routes_used = False
        self._number = order.number
        self._named = order.workspace
        self.folders_in_memory = _folders_of(self.workspace if order.workspace else None)
        self._has_terminal = order.stdio.terminal is not None or order.role == "session"
        self._last_pid = -1

    def enter(self) -> None:
        """Raise the boundary around this process, before anything of the guest exists."""
        with step("slot-namespaces"):
            kernel.unshare(SLOT_NAMESPACES)
        if self._overlay:
            with step("slot-root"):
                overlay.put_together(self._namespaces.shown, self._nodes(), self._namespaces.programs)
                if self._named:  # INVARIANT: nothing is in sight of it but what is below it
                    kernel.mount(self._named, overlay.NEW_ROOT + self.workspace, None, kernel.MS_BIND)
                self._mount_proc(overlay.NEW_ROOT)  # before: the kernel allows it only where another one is in sight
                overlay.make_root()
        else:
            with step("slot-root"):
                self._mount_proc("")
        with step("slot-mounts"):
            for folder in self.folders_in_memory:
                self._mount_tmpfs(folder)
            if self._has_terminal:
                terminal.mount()
        with step("slot-network"):
            kernel.raise_loopback()
            socket.sethostname("sandbox")

    def make_inputs(self) -> None:
        """See ``PidNamespace.make_inputs``. INVARIANT: it is a mount point that no guest can move or replace."""
        kernel.mount("tmpfs", self.inputs, "tmpfs", _TMPFS | kernel.MS_NOEXEC, f"mode=755,size={self._workspace_bytes}")
        self.folders_in_memory += (self.inputs,)  # a cell's input is the guest's, who can have it grow

    def renew(self) -> None:
        """Replace everything that the guest has changed, once nothing of it is alive.

        INVARIANT: all is replaced but what no guest can change: the mounts and overlays (read-only), the host name,
        the cgroup's place, a folder in which nothing was made or touched, and a network in which the kernel saw no
        socket of the Internet or of the routing table made. Unmounting fails while anyone still uses a file, and with
        it the slot: nobody is overlooked. SECURITY.md lists every kind of kernel state, and what resets it.
        """
        with step("slot-mounts"):
            for folder in [folder for folder, look in self._unused.items() if look_of(folder) != look]:
                kernel.unmount(folder, 0)
                self._mount_tmpfs(folder)
        with step("slot-network"):
            kernel.unshare(kernel.CLONE_NEWIPC)
            if self._internet_used:
                kernel.unshare(kernel.CLONE_NEWNET)
                kernel.raise_loopback()
                self._internet_used = self._routes_used = False
        with step("slot-pids"):
            if self._last_pid >= 0:
                os.pwrite(self._last_pid, b"1", 0)  # the next process is number 2 again

    def _nodes(self) -> dict[str, str]:
        return {device: devices.place_of(device, self._number) for device in self._namespaces.devices}

    def _mount_proc(self, root: str) -> None:
        """Read-only: what a process may write of itself there (its memory's peak, its score) is the supervisor's."""
        proc = f"{root}/proc"
        kernel.mount("proc", proc, "proc", _TMPFS | kernel.MS_NOEXEC)
        self._loads = os.open(f"{proc}/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        with contextlib.suppress(FileNotFoundError):  # without CONFIG_CHECKPOINT_RESTORE
            self._last_pid = os.open(f"{proc}/sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC)
        kernel.mount(proc, proc, None, kernel.MS_BIND)
        top = os.open(proc, os.O_PATH | os.O_CLOEXEC)
        kernel.restrict_mount(top, kernel.MS_RDONLY)
        os.close(top)
        for place, (file, folder) in self._namespaces.masked.items():
            if os.path.exists(root + place):
                kernel.mount(
                    root + (folder if os.path.isdir(root + place) else file), root + place, None, kernel.MS_BIND
                )

    def _mount_tmpfs(self, folder: str) -> None:
        own = f"mode=755,uid={self._uid},gid={self._uid}" if folder == self.workspace else "mode=1777"
        size = self._namespaces.shm_bytes if folder == _SHM else self._workspace_bytes
        inodes = self._namespaces.inodes
        kernel.mount("tmpfs", folder, "tmpfs", _TMPFS, f"size={size},nr_inodes={inodes},{own}")
        self._unused[folder] = look_of(folder)

    def used_temp(self) -> int | None:
        """See ``PidNamespace.used_temp``. INVARIANT: it is a mount point, which no guest can move or replace."""
        return super().used_temp() if self._unused[_TEMP] != look_of(_TEMP) else None

    def note_internet(self) -> None:
        """A guest made a socket of the Internet, or may have: its network is not given to the next one."""
        self._internet_used = True

    def route_sockets(self) -> int:
        """How many sockets of the routing table there are; a guest asks for one more."""
        self._routes_used = True
        with open("/proc/net/protocols", encoding="ascii") as file:
            return next((int(line.split()[2]) for line in file if line.startswith("NETLINK ")), 0)

    def newest(self) -> int:
        """The number of the process or thread that was made last, dead or not: no other has it while it lives."""
        return int(os.pread(self._loads, 200, 0).split()[-1])

    def uncharged_bytes(self) -> int:
        """What waits in sockets of the routing table: no cgroup counts it."""
        return waiting_routes() if self._routes_used else 0

    def stored_bytes(self) -> int:
        """Bytes of memory that files hold, and what waits in sockets to be read; a folder on a disk holds none."""
        queued = queued_bytes() if self._internet_used else 0
        return queued + content_bytes(self.folders_in_memory)


class ContainerBoundary(PidNamespace):
    """A container around init, PID 1 in it, by the engine. ``on_disk``: its workspace is a folder of the host's."""

    def __init__(self, *, on_disk: bool = False) -> None:
        self.folders_in_memory = _folders_of(self.workspace if on_disk else None)

    def enter(self) -> None:
        """Nothing more: this process was started inside."""

    def note_internet(self) -> None:
        """Nothing: the container's network is gone with it."""

    def route_sockets(self) -> int:
        """None that are counted: what waits in them is."""
        return 0

    def uncharged_bytes(self) -> int:
        """None beside what is stored."""
        return 0

    def stored_bytes(self) -> int:
        """What waits in sockets to be read, which cgroups of version 1 do not count; all else the container's does."""
        return queued_bytes()


Boundary = NamespaceBoundary | LandlockBoundary | ContainerBoundary


def boundary_of(template: SlotTemplate, order: SlotOrder) -> NamespaceBoundary | LandlockBoundary:
    """The boundary that a slot of the embedded backend has. Raises ``ValueError`` where the setup names none."""
    setup = template.setup
    if setup.namespaces:
        return NamespaceBoundary(template, setup.namespaces, order)
    if setup.landlock:
        return LandlockBoundary(setup.landlock, order.uid, own_uid=setup.uid_per_slot, order=order)
    raise ValueError("the setup names no boundary for a slot")


def _folders_of(disk: str | None) -> tuple[str, ...]:
    """Those in memory; ``disk`` is not."""
    return tuple(folder for folder in _FOLDERS if folder != disk)
