"""The history as an operator reads it: of every caller, oldest first, while a server goes on writing it."""

from codex_server.service.history import TABLE, ExecutionEntry
from codex_server.store.base import Record, Store

_PAGE = 500


class Journal:
    """Reads the entries of the caller with that name, or of all, and what comes later."""

    def __init__(self, store: Store, caller: str | None = None) -> None:
        self._store, self._caller = store, caller
        self._place = 0
        self._open: dict[str, ExecutionEntry] = {}

    async def newest(self, limit: int) -> list[ExecutionEntry]:
        """The last ``limit`` entries; ``news`` begins after them."""
        found: list[ExecutionEntry] = []
        before: int | None = None
        while True:
            page = await self._store.page(TABLE, before=before, limit=_PAGE)
            if before is None and page.records:
                self._place = page.records[0].sequence
            found += self._wanted(page.records)
            before = page.before
            if before is None or len(found) >= limit:
                return self._shown(found[:limit][::-1])

    async def news(self) -> list[ExecutionEntry]:
        """The entries that came since the last call, and again those of before that have ended since."""
        ended = [entry for known in list(self._open.values()) if (entry := await self._changed(known))]
        found: list[ExecutionEntry] = []
        while records := await self._store.follow(TABLE, after=self._place, limit=_PAGE):
            self._place = records[-1].sequence
            found += self._wanted(records)
        return self._shown([*ended, *found])

    async def _changed(self, known: ExecutionEntry) -> ExecutionEntry | None:
        record = await self._store.get(TABLE, known.execution_id)
        if record is None:  # retention took it
            del self._open[known.execution_id]
            return None
        entry = _entry(record)
        return entry if entry != known else None

    def _wanted(self, records: tuple[Record, ...]) -> list[ExecutionEntry]:
        entries = map(_entry, records)
        return [entry for entry in entries if self._caller is None or entry.caller == self._caller]

    def _shown(self, entries: list[ExecutionEntry]) -> list[ExecutionEntry]:
        """``entries``, of which those that have not ended are looked at again."""
        for entry in entries:
            if entry.ended:
                self._open.pop(entry.execution_id, None)
            else:
                self._open[entry.execution_id] = entry
        return entries


def _entry(record: Record) -> ExecutionEntry:
    return ExecutionEntry.model_validate_json(record.value)
