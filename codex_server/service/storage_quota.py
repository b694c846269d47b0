"""What kept files take of the quotas: for each caller, and for all of them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from codex_server.units import format_seconds, format_sizes

_BLOCK = 4096
"""A file counts as so many bytes at least: a disk gives no less, and so quotas bound the number of files too."""


@dataclass(frozen=True, slots=True)
class KeepingQuotas:
    """Bytes that may be kept for one caller and for all of them, and for how many seconds."""

    caller_bytes: int
    total_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Place:
    """What a kept file takes of the quotas."""

    owner: str
    size: int
    expires_at: float


class StorageQuota:
    """Counts the bytes of kept files against ``quotas``; a file is known by its id."""

    def __init__(self, quotas: KeepingQuotas) -> None:
        self._quotas = quotas
        self._places: dict[str, Place] = {}
        self._used: Counter[str] = Counter()

    def __contains__(self, file_id: str) -> bool:
        return file_id in self._places

    def refusal(self, owner: str, size: int) -> str | None:
        """Why a file of that size cannot be kept for ``owner``, if it cannot."""
        for used, quota, whose in (
            (self._used[owner], self._quotas.caller_bytes, "your files"),
            (self._used.total(), self._quotas.total_bytes, "all callers' files"),
        ):
            if used + _cost(size) > quota:
                shown, cap = format_sizes(size, quota)
                return (
                    f"its {shown} do not fit into the {cap} that are kept of {whose}; "
                    f"each is kept for {format_seconds(self._quotas.seconds)}"
                )
        return None

    def take(self, file_id: str, owner: str, size: int, expires_at: float) -> None:
        """Count a file of ``size`` bytes; one that is known is counted anew."""
        self.release(file_id)
        place = Place(owner, _cost(size), expires_at)
        self._places[file_id] = place
        self._used[place.owner] += place.size

    def release(self, file_id: str) -> None:
        """Count it no more."""
        if place := self._places.pop(file_id, None):
            self._used[place.owner] -= place.size
            if not self._used[place.owner]:
                del self._used[place.owner]

    def expired(self, now: float) -> list[str]:
        """The files whose time is over."""
        return [name for name, place in self._places.items() if place.expires_at <= now]

    def above_total(self) -> Iterable[str]:
        """The oldest files, as many as are above the quota of all: an operator has lowered it."""
        used = self._used.total()
        for name, place in self._places.items():
            if used <= self._quotas.total_bytes:
                return
            used -= place.size
            yield name


def _cost(size: int) -> int:
    return -(-max(size, 1) // _BLOCK) * _BLOCK
