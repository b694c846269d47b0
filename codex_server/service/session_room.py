"""How many sessions there may be, and how much memory they may have together."""

from collections import Counter
from dataclasses import dataclass

from codex_server.settings import Settings
from codex_server.units import format_sizes


@dataclass(frozen=True, slots=True)
class SessionBounds:
    """Sessions in all and of one caller, and the bytes of all their memory limits together."""

    total: int
    caller: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class _Place:
    owner: str
    memory_bytes: int


class SessionRoom:
    """Counts sessions against ``bounds``; a session is known by its id, and takes as much as its memory limit."""

    def __init__(self, bounds: SessionBounds) -> None:
        self._bounds = bounds
        self._places: dict[str, _Place] = {}
        self._of_caller: Counter[str] = Counter()
        self._memory = 0

    def refusal(self, owner: str, memory_bytes: int) -> str | None:
        """Why there is no room for a session of ``owner``, as a sentence; None where there is."""
        bounds = self._bounds
        if self._of_caller[owner] >= bounds.caller:
            return f"as many sessions of yours are open as this server allows: {bounds.caller}"
        if len(self._places) >= bounds.total:
            return f"as many sessions are open as this server allows: {bounds.total}"
        free = max(0, bounds.memory_bytes - self._memory)
        # One is always let in: else a server whose limit for a session is above its room would serve none.
        if self._places and memory_bytes > free:
            wanted, shown = format_sizes(memory_bytes, free)
            return f"the session may take {wanted} of memory (`limits.memory_bytes`), and {shown} are free for sessions"
        return None

    def take(self, session_id: str, owner: str, memory_bytes: int) -> None:
        """Count a session."""
        self._places[session_id] = _Place(owner, memory_bytes)
        self._of_caller[owner] += 1
        self._memory += memory_bytes

    def release(self, session_id: str) -> None:
        """Count it no more; nothing when it is not counted."""
        if place := self._places.pop(session_id, None):
            self._memory -= place.memory_bytes
            self._of_caller[place.owner] -= 1
            if not self._of_caller[place.owner]:
                del self._of_caller[place.owner]


def session_bounds(settings: Settings) -> SessionBounds:
    """The bounds that the operator set."""
    return SessionBounds(settings.max_sessions, settings.max_sessions_caller, settings.sessions_memory)
