"""What an execution may use. A request may tighten the server's limits and never loosen them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from codex_server.errors import LimitTooLoose
from codex_server.units import format_size

MOST_PENDING_SIGNALS = 1024
"""Signals that may be queued to a program: more than one has; a timer (``timer_create``) needs one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one execution. What the program observes at each is told beside it."""

    wall_seconds: float = 10.0
    """Everything in the sandbox is killed: status ``timed_out``."""
    cpu_seconds: float = 30.0
    """Processor time of all processes together; then killed: status ``timed_out``."""
    memory_bytes: int = 512 * 2**20
    """Resident memory of all processes, with files in the workspace and /tmp; then killed: ``memory_exceeded``."""
    processes: int = 64
    """Processes and threads together; ``fork`` then fails with EAGAIN."""
    output_bytes: int = 64 * 2**10
    """Kept of each stream, head and tail; the program goes on and does not notice."""
    file_bytes: int = 64 * 2**20
    """Largest file the program may write; ``write`` then fails with EFBIG. Of the workspace's size it binds nothing."""

    def tightened(self, wanted: Mapping[str, float]) -> Self:
        """These limits with the ``wanted`` ones in their place.

        Raises ``LimitTooLoose`` that names the first limit above its ceiling.
        """
        for name, refusal in self.too_loose(wanted).items():
            raise LimitTooLoose(refusal, pointer=f"/limits/{name}")
        return replace(self, **{name: type(getattr(self, name))(value) for name, value in wanted.items()})

    def too_loose(self, wanted: Mapping[str, float]) -> dict[str, str]:
        """The name of each of the ``wanted`` limits that is above its ceiling, and what to ask for instead."""
        ceilings = {name: getattr(self, name) for name in wanted}
        return {
            name: f"{_shown(name, value)} is above this server's ceiling of {_shown(name, ceilings[name])}; "
            f"ask for at most {ceilings[name]:.15g}, or leave it out to get that"
            for name, value in wanted.items()
            if value > ceilings[name]
        }


def _shown(name: str, value: float) -> str:
    """A limit as a person reads it, without a power of ten: ``64``, ``30.5``, ``1073741824 (1 GiB)``."""
    return f"{int(value)} ({format_size(int(value))})" if name.endswith("_bytes") else f"{value:.15g}"
