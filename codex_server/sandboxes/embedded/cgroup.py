"""Cgroups, version 2 or 1: one for each slot, below one folder for each server process.

A slot joins while it is armed (joining can wait milliseconds for the kernel), through descriptors of ``cgroup.procs``
that are opened here: the kernel checks the opener, so the unprivileged slot may write to them.
"""

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from codex_server.limits import Limits
from codex_server.sandboxes.guest.removal import remove_cgroups

_PREFIX = "codex-server-"
_PEAKS = ("memory.peak", "memory.max_usage_in_bytes")
_SPARE_MEMORY = 4 * 2**20
"""What the kernel may count too much for a moment: it keeps some pages for each processor."""
_V1_CONTROLLERS = ("memory", "pids", "cpuacct")
_V2_CONTROLLERS = frozenset({"memory", "pids"})
_SHARES = "cpu"
"""The controller that gives each slot the same share of the processors, however many sessions and threads it has. It is
taken where it is offered."""
_ONE_SHARE = 1024
_TCP_LIMIT, _TCP_PEAK = "memory.kmem.tcp.limit_in_bytes", "memory.kmem.tcp.max_usage_in_bytes"
"""Version 1 counts the buffers of sockets apart, and only where they have a limit of their own."""
_OOM_KILLS = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)
_USED_MICROSECONDS = re.compile(rb"^usage_usec (\d+)$", re.MULTILINE)


class CgroupsUnavailable(Exception):
    """This host lets us make no cgroups; the message says why and how to change it."""


@dataclass(frozen=True, slots=True)
class CgroupUsage:
    """What a slot used, as its cgroup counted it."""

    cpu_seconds: float
    peak_memory_bytes: int | None
    oom_kills: int


class Layout:
    """Which files the cgroups of this host have, learned from the first one: looking each time would cost more."""

    def __init__(self) -> None:
        self._indexes: dict[str, int | None] = {}
        self.armed_bytes: dict[str, int] = {}
        """What a new slot uses once it is armed, by the program that waits in it."""

    def find(self, folders: tuple[str, ...], *names: str) -> str | None:
        """The path of the first of ``names`` that exists in one of ``folders``."""
        for name in names:
            if name not in self._indexes:
                holders = (index for index, folder in enumerate(folders) if Path(folder, name).exists())
                self._indexes[name] = next(holders, None)
            index = self._indexes[name]
            if index is not None:
                return f"{folders[index]}/{name}"
        return None


class SlotCgroup:
    """The cgroup of one slot: one folder, or one for each controller of version 1."""

    def __init__(self, folders: Iterable[Path], layout: Layout) -> None:
        self._folders = tuple(map(str, folders))
        self._layout = layout
        self._cpu_before = 0.0
        self._kills_before = 0
        self._limits: Limits | None = None
        self._files: dict[str, int | None] = {}
        self._peak_file = -1  # version 2 sets the peak back for one open file alone
        for folder in self._folders:
            os.mkdir(folder)  # noqa: PTH102 - pathlib costs more than the call, and this is on every execution's way

    def open_procs(self) -> list[int]:
        """Descriptors to join by; the caller closes them."""
        return [os.open(f"{folder}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in self._folders]

    def limit(self, limits: Limits) -> None:
        """Bound memory (without swap) and the number of processes; init is one more."""
        if self._limits and _bounded(limits) == _bounded(self._limits):
            return
        rows = [
            ("memory.swap.max", 0),
            ("memory.max", limits.memory_bytes),
            ("memory.limit_in_bytes", limits.memory_bytes),
            ("memory.memsw.limit_in_bytes", limits.memory_bytes),
            (_TCP_LIMIT, limits.memory_bytes),
            ("pids.max", limits.processes + 1),
        ]
        if self._limits and limits.memory_bytes > self._limits.memory_bytes:
            rows.reverse()  # version 1 wants the bound with swap never below the one without
        for name, value in rows:
            if file := self._layout.find(self._folders, name):
                _write(file, value)
        self._limits = limits

    def begin(self) -> None:
        """Count CPU time from here: what arming took is not the program's."""
        self._cpu_before = self._cpu_seconds()

    def begin_cell(self) -> None:
        """Count CPU time, kills and, where the kernel can set it back, the peak of memory from here."""
        self.begin()
        self._kills_before = self._oom_kills()
        if self._peak_file >= 0:
            os.write(self._peak_file, b"0")

    def usage(self) -> CgroupUsage:
        """What was used since ``begin``; the peak of memory includes the armed sandbox itself."""
        return CgroupUsage(self._cpu_seconds() - self._cpu_before, self._peak(), self._oom_kills() - self._kills_before)

    @property
    def resettable(self) -> bool:
        """Whether its peak of memory can be set back: with version 1, and with version 2 from Linux 6.12 on."""
        return self._peak_file >= 0

    def note_new(self, program: str) -> None:
        """Remember what a new slot uses with ``program`` armed in it, and how its peak is set back, if it can be."""
        with contextlib.suppress(OSError):
            if used := self._used():
                self._layout.armed_bytes[program] = min(used, self._layout.armed_bytes.get(program, used))
            file = self._layout.find(self._folders, *_PEAKS)
            if file and self._peak_file < 0:
                self._peak_file = _open_to_reset(file)

    def reset(self, program: str) -> bool:
        """Set the peak of memory back. False when more is in use than in a new slot: then it is not empty.

        Pages of files that its programs were the first to read are counted too, and would make the next peak a lie.
        """
        try:
            os.write(self._peak_file, b"0")
            if (sockets := self._file(_TCP_PEAK, access=os.O_RDWR)) is not None:
                os.pwrite(sockets, b"0", 0)
            used = self._used()
        except OSError:
            return False
        return used is not None and used <= self._layout.armed_bytes.get(program, 0) + _SPARE_MEMORY

    async def remove_soon(self) -> None:
        """Remove it. Its processes are dead, but the kernel may count one for a moment more."""
        for pause in (0.0, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0):
            await asyncio.sleep(pause)
            with contextlib.suppress(OSError):
                return self._remove()
        self._remove()

    def _remove(self) -> None:
        files, self._files = self._files, {}
        for file in (*files.values(), self._peak_file):
            if file is not None and file >= 0:
                os.close(file)
        self._peak_file = -1
        for folder in self._folders:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(folder)  # noqa: PTH106 - as above

    def _cpu_seconds(self) -> float:
        nanoseconds = self._number("cpuacct.usage")
        return self._count(_USED_MICROSECONDS, "cpu.stat") / 1e6 if nanoseconds is None else nanoseconds / 1e9

    def _used(self) -> int | None:
        return self._number("memory.current", "memory.usage_in_bytes")

    def _peak(self) -> int | None:
        """With version 1 the peak of the sockets' buffers is added, though the two need not have come at once."""
        of_sockets = self._number(_TCP_PEAK, access=os.O_RDWR) or 0
        of_all = int(os.pread(self._peak_file, 100, 0)) if self._peak_file >= 0 else self._number(*_PEAKS)
        return None if of_all is None else of_all + of_sockets

    def _oom_kills(self) -> int:
        return self._count(_OOM_KILLS, "memory.events", "memory.oom_control")

    def _number(self, *names: str, access: int = os.O_RDONLY) -> int | None:
        """What the first of ``names`` that there is says; None where there is none."""
        file = self._file(*names, access=access)
        return None if file is None else int(os.pread(file, 100, 0))

    def _count(self, line: re.Pattern[bytes], *names: str) -> int:
        """The number in that line of it; 0 where there is none."""
        file = self._file(*names)
        found = None if file is None else line.search(os.pread(file, 4096, 0))
        return int(found[1]) if found else 0

    def _file(self, *names: str, access: int = os.O_RDONLY) -> int | None:
        """The first of ``names`` that there is. It stays open with the slot: opening costs more than reading."""
        if names[0] not in self._files:
            path = self._layout.find(self._folders, *names)
            self._files[names[0]] = os.open(path, access | os.O_CLOEXEC) if path else None
        return self._files[names[0]]


class CgroupTree:
    """The folders below which this server makes its slots' cgroups."""

    def __init__(self, parents: Iterable[Path]) -> None:
        """Make this server's folders below ``parents``, and remove those of servers that are gone."""
        name = f"{_PREFIX}{os.getpid()}-{_start_time(os.getpid())}-{secrets.token_hex(3)}"
        self.folders = tuple(parent / name for parent in parents)
        self._made = 0
        self._layout = Layout()
        for folder in self.folders:
            _sweep(folder.parent)
            folder.mkdir()
            _delegate(folder)
            _share_as_others(folder)

    def slot(self) -> SlotCgroup:
        """A new cgroup. Raises ``OSError``."""
        self._made += 1
        return SlotCgroup((folder / f"slot-{self._made}" for folder in self.folders), self._layout)

    def close(self) -> None:
        """Remove everything."""
        remove_cgroups([str(folder) for folder in self.folders])


def open_tree() -> CgroupTree:
    """This server's tree. Raises ``CgroupsUnavailable``."""
    try:
        return CgroupTree(_v2_parent() or _v1_parents())
    except OSError as error:
        raise CgroupsUnavailable(
            f"cgroups cannot be written here ({error.strerror}: {error.filename}); run the server as root, or as a "
            "service with systemd's Delegate=yes, to have memory and processes bounded by the kernel"
        ) from error


def _v2_parent() -> list[Path]:
    mount = _mounts().get("cgroup2")
    if mount is None or not set((mount / "cgroup.controllers").read_text().split()) >= _V2_CONTROLLERS:
        return []
    own = mount / _own_paths()[""].lstrip("/")
    if own != mount:
        _move_self_to_leaf(own)
    _delegate(own)
    return [own]


def _move_self_to_leaf(own: Path) -> None:
    """A cgroup of version 2 with children that have controllers may hold no process itself."""
    if (own / "cgroup.procs").read_text().split() == [str(os.getpid())]:
        leaf = own / "codex-server-main"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text("0")


def _delegate(folder: Path) -> None:
    control = folder / "cgroup.subtree_control"
    if control.exists():
        control.write_text(" ".join(f"+{name}" for name in sorted(_V2_CONTROLLERS)))
        with contextlib.suppress(OSError):  # not offered here, or a real-time process stands in its way
            if _SHARES in (folder / "cgroup.controllers").read_text().split():
                control.write_text(f"+{_SHARES}")


def _share_as_others(folder: Path) -> None:
    """With version 1, whose processes outside of groups weigh as much as a group: as much as one on each processor."""
    with contextlib.suppress(FileNotFoundError):
        _write(str(folder / "cpu.shares"), _ONE_SHARE * (os.cpu_count() or 1))


def _v1_parents() -> list[Path]:
    mounts, own = _mounts(), _own_paths()
    missing = [name for name in _V1_CONTROLLERS if name not in mounts or name not in own]
    if missing:
        raise CgroupsUnavailable(f"the kernel offers no cgroup controller {', '.join(missing)}")
    parents = [mounts[name] / own[name].lstrip("/") for name in _V1_CONTROLLERS]
    if _SHARES in mounts and _SHARES in own:
        shares = mounts[_SHARES] / own[_SHARES].lstrip("/")
        parents += [shares] if os.access(shares, os.W_OK) else []
    return list(dict.fromkeys(parents))


def _mounts() -> dict[str, Path]:
    """Where ``cgroup2`` and each controller of version 1 is mounted."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            found["cgroup2"] = Path(before.split()[4])
        elif kind == "cgroup":
            found |= {name: Path(before.split()[4]) for name in options.split(",")}
    return found


def _own_paths() -> dict[str, str]:
    """This process's cgroup in each controller's hierarchy; version 2 is the empty name."""
    rows = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines())
    return {name: path for _, names, path in rows for name in names.split(",")}


def _bounded(limits: Limits) -> tuple[int, int]:
    """The limits that a cgroup holds."""
    return limits.memory_bytes, limits.processes


def _open_to_reset(file: str) -> int:
    """A descriptor of a peak that was set back once, as a proof. Raises ``OSError`` where the kernel cannot."""
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"0")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _write(file: str, value: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode("ascii"))
    finally:
        os.close(descriptor)


def _start_time(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()[19]


def _sweep(parent: Path) -> None:
    """Remove the folders of servers that no longer run (killed without their launcher)."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        pid, start, *_ = folder.name.removeprefix(_PREFIX).split("-")
        try:
            gone = _start_time(int(pid)) != start
        except ValueError:
            continue
        except OSError:
            gone = True
        if gone:
            remove_cgroups([str(folder)])
