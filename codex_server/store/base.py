"""The contract of every store: records in named tables, and counters.

Times are seconds since the epoch. What has expired is never returned and counts nowhere, swept or not.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


def since_epoch() -> float:
    """Now, by the wall clock: the only one that means the same in another process and after a restart."""
    return time.time()  # noqa: TID251 - see above


@dataclass(frozen=True, slots=True)
class Record:
    """One value as it is kept. ``sequence`` grows with each new record and is never used twice in a table."""

    key: str
    value: bytes
    owner: str
    sequence: int
    created_at: float
    expires_at: float | None = None

    def expired(self, now: float) -> bool:
        """Whether it is gone at ``now``."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Entry:
    """One value to keep, as ``Store.put`` takes it."""

    key: str
    value: bytes
    owner: str = ""
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Records, the newest first; ``before`` is the cursor of the next page, None on the last one."""

    records: tuple[Record, ...]
    before: int | None


@dataclass(frozen=True, slots=True)
class Size:
    """How many records, and the bytes of their values."""

    rows: int
    bytes: int


class Store(ABC):
    """Each method is atomic, also between processes, and raises ``StoreUnusable`` when the store fails.

    INVARIANT: calls take effect in the order in which they were made, and to the end: a caller that is cancelled stops
    waiting, but what it asked for is done.
    """

    @abstractmethod
    async def get(self, table: str, key: str) -> Record | None:
        """The record, or None."""

    @abstractmethod
    async def put(
        self,
        table: str,
        key: str,
        value: bytes,
        *,
        owner: str = "",
        expires_at: float | None = None,
        only_if_absent: bool = False,
    ) -> bool:
        """Keep ``value``, and return whether it was kept: always, except with ``only_if_absent`` where the key is used.

        A record that is replaced keeps its sequence and its ``created_at``.
        """

    @abstractmethod
    async def put_all(self, table: str, entries: Sequence[Entry]) -> None:
        """Keep all of them, in this order, as ``put`` does; none of them when it raises."""

    @abstractmethod
    async def delete(self, table: str, key: str, *, expected: bytes | None = None) -> bool:
        """Remove the record, with ``expected`` only if that is its value; return whether there was one to remove."""

    @abstractmethod
    async def page(self, table: str, *, owner: str | None = None, before: int | None = None, limit: int = 100) -> Page:
        """The newest records of ``owner`` (None: of all), from those with a sequence below ``before``."""

    @abstractmethod
    async def follow(self, table: str, *, after: int = 0, limit: int = 100) -> tuple[Record, ...]:
        """The oldest records with a sequence above ``after``, in the order in which they came."""

    @abstractmethod
    async def size(self, table: str, *, owner: str | None = None) -> Size:
        """What ``owner`` (None: all) keeps in the table."""

    @abstractmethod
    async def add(
        self, table: str, key: str, amounts: Mapping[str, float], *, expires_at: float | None = None
    ) -> Mapping[str, float]:
        """Add to the counters of ``key`` and return all of them; without amounts only return them.

        A counter that has expired begins at 0 again. The latest ``expires_at`` holds for the counters that it adds to.
        """

    @abstractmethod
    async def trim(self, table: str, *, max_rows: int, max_bytes: int) -> int:
        """Remove the oldest records until both bounds hold; return how many were removed."""

    @abstractmethod
    async def sweep(self) -> int:
        """Remove what has expired, and return how much that was. A store does so by itself from time to time."""

    @abstractmethod
    async def close(self) -> None:
        """End what was begun. A second call does nothing; no other call may follow."""
