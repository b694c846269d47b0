"""What a container's cgroup has counted, read inside of it: kernel's numbers in files that no guest can write."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class _Files:
    """Where a version of cgroups keeps them; ``cpu_unit`` in seconds."""

    cpu: Path
    cpu_key: str
    cpu_unit: float
    peak: Path
    events: Path


_V2 = _Files(_MOUNT / "cpu.stat", "usage_usec", 1e-6, _MOUNT / "memory.peak", _MOUNT / "memory.events")
_V1 = _Files(
    _MOUNT / "cpuacct" / "cpuacct.usage",
    "",
    1e-9,
    _MOUNT / "memory" / "memory.max_usage_in_bytes",
    _MOUNT / "memory" / "memory.oom_control",
)


class CgroupAccounting:
    """CPU time, peak memory and OOM kills since ``begin``; what the engine does not show is left out."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self._cpu_before = 0.0

    @classmethod
    def open(cls) -> "CgroupAccounting":
        """The account of the container that this runs in."""
        return cls(_V2 if _V2.events.exists() else _V1)

    @property
    def leaves_sockets_out(self) -> bool:
        """Whether the buffers of sockets are not counted as memory: with version 1."""
        return self._files is _V1

    def begin(self) -> None:
        """Count from now on."""
        self._cpu_before = self._cpu() or 0.0

    def cpu_seconds(self) -> float | None:
        """CPU time since ``begin``, of all processes together; None where it is not shown."""
        now = self._cpu()
        return None if now is None else now - self._cpu_before

    def counted(self) -> dict[str, float]:
        """What is reported of it."""
        found = {"cpu_seconds": self.cpu_seconds(), "peak_memory_bytes": self._peak(), "oom_kills": self.oom_kills()}
        return {name: value for name, value in found.items() if value is not None}

    def oom_kills(self) -> int | None:
        """Processes that were killed for memory since the container began."""
        return _number(self._files.events, "oom_kill")

    def _cpu(self) -> float | None:
        value = _number(self._files.cpu, self._files.cpu_key)
        return None if value is None else value * self._files.cpu_unit

    def _peak(self) -> int | None:
        return _number(self._files.peak, "")


def _number(file: Path, key: str) -> int | None:
    """The number of the line ``key``, or the file's only one; None where there is no such file or line."""
    with contextlib.suppress(OSError, ValueError):
        rows = [line.split() for line in file.read_text(encoding="ascii").splitlines() if line.strip()]
        return next((int(row[-1]) for row in rows if not key or row[0] == key), None)
    return None
