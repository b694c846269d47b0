"""Where the figures were taken: a figure without its machine and its commit means little."""

import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from codex_server import __version__

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, the kernel and the commit. ``dirty``: files differ from the commit."""

    processor: str
    processors: int
    memory_bytes: int
    kernel: str
    version: str
    commit: str
    dirty: bool

    def as_json(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def read_machine() -> Machine:
    """This machine, and the checkout that this file is in."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    return Machine(
        processor=parse_processor(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
        processors=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        kernel=platform.release(),
        version=__version__,
        commit=commit or "unknown",
        dirty=bool(commit and _git("status", "--porcelain")),
    )


def load_average() -> float:
    """Processes that wanted a processor, over the last minute."""
    return os.getloadavg()[0]


def parse_processor(cpuinfo: str) -> str:
    """The model's name from ``/proc/cpuinfo``; ARM kernels give none, then it is the architecture."""
    found = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _git(*words: str) -> str:
    """What git prints; empty where there is no git or no checkout."""
    try:
        response = subprocess.run(
            ["git", "-C", str(_ROOT), *words], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return response.stdout.strip() if response.returncode == 0 else ""


def version_of(program: str) -> str:
    """What ``program --version`` says, without the program's name."""
    response = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    return (response.stdout or response.stderr).strip().removeprefix("Python ").removeprefix("v")


def keep_to_processors(number: int) -> int:
    """Keep this process and its children to ``number`` processors, so that every machine runs the same race."""
    chosen = sorted(os.sched_getaffinity(0))[:number]
    os.sched_setaffinity(0, chosen)
    return len(chosen)
