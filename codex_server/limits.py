"""The limits of an execution. A request can tighten the server's limits, never loosen them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from codex_server.errors import LimitTooLoose
from codex_server.units import format_size

MOST_PENDING_SIGNALS = 1024
"""Signals that may be queued to a program; each timer (``timer_create``) needs one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one execution, each with its effect on the program."""

    wall_seconds: float = 10.0
    """Then the whole sandbox is killed: status ``timed_out``."""
    cpu_seconds: float = 30.0
    """CPU time of all processes together; then killed: status ``timed_out``."""
    memory_bytes: int = 512 * 2**20
    """Resident memory of all processes plus files in the workspace and /tmp; then killed: ``memory_exceeded``."""
    processes: int = 64
    """Processes and threads together; ``fork`` then fails with EAGAIN."""
    output_bytes: int = 64 * 2**10
    """Bytes kept of each stream, head and tail; the program goes on and does not notice."""
    file_bytes: int = 64 * 2**20
    """Largest file the program may write; ``write`` then fails with EFBIG. It does not limit the workspace's size."""

    def tightened(self, wanted: Mapping[str, float]) -> Self:
        """Return these limits with the ``wanted`` ones replaced.

        Raises ``LimitTooLoose``, which names the first limit above its ceiling.
        """
        for name, refusal in self.too_loose(wanted).items():
            raise LimitTooLoose(refusal, pointer=f"/limits/{name}")
        return replace(self, **{name: type(getattr(self, name))(value) for name, value in wanted.items()})

    def too_loose(self, wanted: Mapping[str, float]) -> dict[str, str]:
        """Return each of the ``wanted`` limits that is above its ceiling, with a message that names the ceiling."""
        ceilings = {name: getattr(self, name) for name in wanted}
        return {
            name: f"{_shown(name, value)} is above this server's ceiling of {_shown(name, ceilings[name])}; "
            f"ask for at most {ceilings[name]:.15g}, or leave it out to get that"
            for name, value in wanted.items()
            if value > ceilings[name]
        }


def _shown(name: str, value: float) -> str:
    """Format a limit for a person, without an exponent: ``64``, ``30.5``, ``1073741824 (1 GiB)``."""
    return f"{int(value)} ({format_size(int(value))})" if name.endswith("_bytes") else f"{value:.15g}"
