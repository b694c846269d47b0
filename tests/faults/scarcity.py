"""Making something scarce for one server and nobody else, and plentiful again."""

import contextlib
import itertools
import os
import re
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Family
from tests.levels import out_of_reach

_CGROUPS = Path("/sys/fs/cgroup")


class Corner:
    """A cgroup of its own for a server, in the hierarchy of one controller of version 1, or below the root of 2."""

    def __init__(self, controller: str, names: tuple[str, str]) -> None:
        old, new = names
        if os.geteuid() != 0:
            out_of_reach("cgroups", "only root can put a server into a cgroup of its own")
        if (_CGROUPS / "cgroup.controllers").exists():
            above, self._limit = _CGROUPS, new
        else:
            above, self._limit = _CGROUPS / controller / _own_path(controller), old
        self.folder = above / f"codex-faults-{os.getpid()}"
        try:
            self.folder.mkdir()
        except OSError as error:
            out_of_reach("cgroups", f"none can be made for the controller {controller}: {error}")
        if not (self.folder / self._limit).exists():
            self.folder.rmdir()
            out_of_reach("cgroups", f"the controller {controller} is not there below {above}")

    @property
    def entrance(self) -> tuple[str, ...]:
        """The command through which a program is started in it."""
        return "sh", "-c", f'echo $$ > {self.folder}/cgroup.procs; exec "$@"', "sh"

    def read(self, name: str) -> int:
        """A number that the kernel counts."""
        return int((self.folder / name).read_text())

    def limit(self, value: int | None) -> None:
        """Bound it; None for no bound."""
        none = "max" if self._limit.endswith(".max") else "-1"
        (self.folder / self._limit).write_text(none if value is None else str(value))

    def close(self) -> None:
        """Remove it; whoever was in it is gone."""
        self.folder.rmdir()


@contextlib.contextmanager
def corner(controller: str, old: str, new: str) -> Iterator[Corner]:
    """``old`` and ``new``: the name of the limit in version 1 and 2."""
    place = Corner(controller, (old, new))
    try:
        yield place
    finally:
        place.close()


def _own_path(controller: str) -> str:
    rows = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return next((path.lstrip("/") for _, names, path in rows if controller in names.split(",")), "")


@contextlib.contextmanager
def _as_owner_of(pid: int) -> Iterator[None]:
    """With the rights that the owner of a process's user namespace has over it, where this is root."""
    if os.geteuid() == 0:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        os.seteuid(int(re.findall(r"^Uid:\s+(\d+)", status, re.MULTILINE)[0]))
    try:
        yield
    finally:
        os.seteuid(os.getuid())


def forbid_forks(family: Family, *, forbid: bool) -> None:
    """Take the right to fork from the zygotes and inits of a server, or give it back."""
    for process in (*family.zygotes, *family.inits):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError), _as_owner_of(process.pid):
            _, most = resource.prlimit(process.pid, resource.RLIMIT_NPROC)
            resource.prlimit(process.pid, resource.RLIMIT_NPROC, (1 if forbid else most, most))


@dataclass(frozen=True)
class SmallDisk:
    """A file system of 1 MiB with 40 files at most, mounted in a mount namespace of its own: nobody else sees it."""

    folder: Path
    """Where it is, for a program that was started through ``entrance``."""
    holder: int
    """The process that keeps the namespace."""

    @property
    def entrance(self) -> tuple[str, ...]:
        """The command through which a program is started in that namespace."""
        return "nsenter", f"--target={self.holder}", "--mount", "--"

    @property
    def _seen_from_here(self) -> Path:
        return Path(f"/proc/{self.holder}/root{self.folder}")

    def fill(self) -> None:
        """Leave no byte and no file free."""
        with contextlib.suppress(OSError), (self._seen_from_here / "filling").open("ab", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with contextlib.suppress(OSError):
            for number in itertools.count():
                (self._seen_from_here / f"filling-{number}").touch()

    def empty(self) -> None:
        """Remove what ``fill`` made."""
        for path in self._seen_from_here.glob("filling*"):
            path.unlink()


@contextlib.contextmanager
def small_disk() -> Iterator[SmallDisk]:
    """The disk, where every account can reach it (pytest's folder is closed)."""
    folder = Path(tempfile.mkdtemp(prefix="codex-disk-", dir="/tmp"))
    folder.chmod(0o711)
    # The shell waits for its stdin to end, and takes the namespace with the disk in it along.
    script = 'mount -t tmpfs -o size=1m,nr_inodes=40,mode=711 tmpfs "$0" && echo mounted && read -r _'
    command = ["unshare", "--mount", "sh", "-c", script, str(folder)]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout
            if holder.stdout.readline() != "mounted\n":
                out_of_reach("mounts", "only root can mount a small disk")
            yield SmallDisk(folder, holder.pid)
    finally:
        folder.rmdir()
