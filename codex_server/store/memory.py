"""The store in the memory of this process, for tests."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from codex_server.store.base import Entry, Page, Record, Size, Store, since_epoch


class MemoryStore(Store):
    """Gone with the process. It belongs to one event loop, and awaits nothing: so each call is atomic."""

    def __init__(self, clock: Callable[[], float] = since_epoch) -> None:
        self._clock = clock
        self._sequences = itertools.count(1)
        self._records: dict[tuple[str, str], Record] = {}
        self._counters: dict[tuple[str, str, str], tuple[float, float | None]] = {}

    async def get(self, table: str, key: str) -> Record | None:
        """As ``Store.get``."""
        await self.sweep()
        return self._records.get((table, key))

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
        """As ``Store.put``."""
        old = await self.get(table, key)
        if old and only_if_absent:
            return False
        record = old or Record(key, value, owner, next(self._sequences), self._clock())
        self._records[table, key] = replace(record, value=value, owner=owner, expires_at=expires_at)
        return True

    async def put_all(self, table: str, entries: Sequence[Entry]) -> None:
        """As ``Store.put_all``."""
        for entry in entries:
            await self.put(table, entry.key, entry.value, owner=entry.owner, expires_at=entry.expires_at)

    async def delete(self, table: str, key: str, *, expected: bytes | None = None) -> bool:
        """As ``Store.delete``."""
        record = await self.get(table, key)
        if record is None or expected not in (None, record.value):
            return False
        del self._records[table, key]
        return True

    async def page(self, table: str, *, owner: str | None = None, before: int | None = None, limit: int = 100) -> Page:
        """As ``Store.page``."""
        await self.sweep()
        found = [each for each in self._newest(table, owner) if before is None or each.sequence < before]
        return Page(tuple(found[:limit]), found[limit - 1].sequence if len(found) > limit else None)

    async def follow(self, table: str, *, after: int = 0, limit: int = 100) -> tuple[Record, ...]:
        """As ``Store.follow``."""
        await self.sweep()
        found = [record for record in self._newest(table) if record.sequence > after]
        return tuple(found[::-1][:limit])

    async def size(self, table: str, *, owner: str | None = None) -> Size:
        """As ``Store.size``."""
        await self.sweep()
        found = list(self._newest(table, owner))
        return Size(len(found), sum(len(record.value) for record in found))

    async def add(
        self, table: str, key: str, amounts: Mapping[str, float], *, expires_at: float | None = None
    ) -> Mapping[str, float]:
        """As ``Store.add``."""
        await self.sweep()
        for name, amount in amounts.items():
            before, _ = self._counters.get((table, key, name), (0.0, None))
            self._counters[table, key, name] = before + amount, expires_at
        return {place[2]: amount for place, (amount, _) in self._counters.items() if place[:2] == (table, key)}

    async def trim(self, table: str, *, max_rows: int, max_bytes: int) -> int:
        """As ``Store.trim``."""
        await self.sweep()
        total = removed = 0
        for place, record in enumerate(list(self._newest(table)), start=1):
            total += len(record.value)
            if place > max_rows or total > max_bytes:
                del self._records[table, record.key]
                removed += 1
        return removed

    async def sweep(self) -> int:
        """As ``Store.sweep``."""
        now = self._clock()
        records = [place for place, record in self._records.items() if record.expired(now)]
        counters = [place for place, (_, end) in self._counters.items() if end is not None and end <= now]
        for place in records:
            del self._records[place]
        for counter in counters:
            del self._counters[counter]
        return len(records) + len(counters)

    async def close(self) -> None:
        """As ``Store.close``."""

    def _newest(self, table: str, owner: str | None = None) -> Iterator[Record]:
        found = (record for (name, _), record in self._records.items() if name == table)
        mine = (record for record in found if owner in (None, record.owner))
        return iter(sorted(mine, key=lambda record: record.sequence, reverse=True))
