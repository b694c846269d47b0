"""What this process has around it on the host: taken before and after a test, the second must hold nothing more.

Counted are this process's descriptors and descendants, every process that bears a guest's mark wherever it hangs, this
machine's mounts, the cgroups of this server, and what lies in the temporary folders.
"""

import itertools
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from tests.waiting import until

_RANGE = 65_536
_RANGES_PER_SESSION = 64
_SESSIONS, _WORKERS = 60, 8


def _own_number() -> int:
    """A number that no other session on this machine is likely to have, and no other worker of this session has."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")  # gw0, gw1, ...: children of one process
    session = os.getppid() if worker else os.getpid()
    return session % _SESSIONS * _WORKERS + int((worker or "gw0")[2:]) % _WORKERS


_FIRST_ID = 1_000_000_000 + _own_number() * _RANGE * _RANGES_PER_SESSION
GUEST_IDS = range(_FIRST_ID, _FIRST_ID + _RANGE * _RANGES_PER_SESSION)
"""The host ids of this session's guests when the server is root: no other server on this machine has them."""
_ranges = itertools.cycle(range(_RANGES_PER_SESSION))
_SHARED_TEMP = ("/tmp", "/var/tmp", "/dev/shm")
_CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class HostSnapshot:
    """The host at one moment; each part is a set of lines that read well in a difference."""

    descriptors: frozenset[str]
    descendants: frozenset[str]
    strays: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    files: frozenset[str]

    @classmethod
    def take(cls) -> "HostSnapshot":
        """Count."""
        return cls(
            descriptors=frozenset(_descriptors()),
            descendants=frozenset(f"{pid} {_name(pid)}" for pid in descendants(os.getpid())),
            strays=frozenset(f"{pid} {_name(pid)}" for pid in _strays()),
            mounts=frozenset(_mounts()),
            cgroups=frozenset(map(str, cgroups_of(os.getpid()))),
            files=frozenset(_files()),
        )

    def added(self, later: "HostSnapshot") -> list[str]:
        """What ``later`` has and this one has not. (What is gone was dying already when this one was taken.)"""
        return [
            f"{field.name}: {line}"
            for field in fields(self)
            for line in sorted(getattr(later, field.name) - getattr(self, field.name))
        ]


def _mounts() -> Iterable[str]:
    """All but what a container engine has made on this machine meanwhile: we make no such mounts on the host."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        kind = line.rpartition(" - ")[2].split()[0]
        if kind not in ("overlay", "nsfs") and "/containers/" not in line:
            yield line


def next_guest_ids() -> str:
    """A range of ``GUEST_IDS`` for one more server, as CODEX_GUEST_IDS has it."""
    return f"{_FIRST_ID + next(_ranges) * _RANGE}:{_RANGE}"


def assert_clean_since(before: HostSnapshot, seconds: float = 5.0) -> None:
    """The host is as it was at ``before``, within a moment: the kernel and the zygote may still bury the dead."""
    if not until(lambda: not before.added(HostSnapshot.take()), seconds):
        left = "\n".join(before.added(HostSnapshot.take()))
        raise AssertionError(f"left on the host:\n{left}")


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``, zombies too."""
    found, waiting = [], [pid]
    while waiting:
        below = _children(waiting.pop())
        found += below
        waiting += below
    return found


def alive(pid: int) -> bool:
    """Whether ``pid`` runs (a zombie does not)."""
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def cgroups_of(pid: int) -> list[Path]:
    """Every cgroup that the server ``pid`` made."""
    found = []
    for top, folders, _ in os.walk(_CGROUP_ROOT):
        for folder in list(folders):
            if folder.startswith(f"codex-server-{pid}-"):
                folders.remove(folder)
                found += [Path(path) for path, _, _ in os.walk(Path(top, folder))]
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii").split())
    except OSError:
        pass
    return found


def _descriptors() -> Iterable[str]:
    for name in os.listdir("/proc/self/fd"):
        try:
            yield f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}"
        except FileNotFoundError:  # the listing's own
            continue


def _strays() -> Iterable[int]:
    """Processes of guests, by uid or by the folder they stand in."""
    home = tempfile.gettempdir() + "/"
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if _status_uid(int(name)) in GUEST_IDS or os.readlink(f"/proc/{name}/cwd").startswith(home):
                yield int(name)
        except OSError:
            continue


def _status_uid(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Uid:"))


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:100]
    except OSError:
        return "gone"


def _files() -> Iterable[str]:
    """Everything in this session's temporary folder, and what guests own in the shared ones."""
    for top, folders, names in os.walk(tempfile.gettempdir()):
        yield from (os.path.join(top, name) for name in (*folders, *names))
    for folder in _SHARED_TEMP:
        for entry in os.scandir(folder) if os.path.isdir(folder) else ():
            try:
                if entry.stat(follow_symlinks=False).st_uid in GUEST_IDS:
                    yield entry.path
            except FileNotFoundError:
                continue
