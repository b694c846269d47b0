"""The history of executions: who ran what and what became of it, one entry for each, kept for a time."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from codex_server.errors import StoreUnusable
from codex_server.store.base import Entry, Store, since_epoch

_log = logging.getLogger(__name__)

TABLE = "history"
_WRITE_SECONDS = 0.2
"""How long entries are collected before they are written together: a killed server loses so much of its history."""
_DAY = 86_400.0
_TRIM_EVERY = 200
"""Entries that are written between two looks at how many there are."""
_MOST_BYTES = 2**30
_MOST_WAITING = 1000
"""Entries that wait for a store that cannot be written to; older ones are lost."""
QUEUED, RUNNING = "queued", "running"


class ExecutionEntry(BaseModel):
    """One execution in the history. What could not be measured, or is not known yet, is null."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    execution_id: str = Field(description="Id of the execution")
    status: str = Field(description="queued, running, the status of its response, or refused or lost")
    language: str = Field(description="Name of the language")
    submitted_at: datetime = Field(description="When the server accepted it (RFC 3339, UTC)")
    background: bool = Field(description="Whether its outcome is kept after the call")
    execution_time: float | None = Field(None, description="Wall seconds of the program alone")
    cpu_seconds: float | None = Field(None, description="CPU time of all its processes")
    exit_code: int | None = Field(None, description="Process exit code; 128 + signal when a signal ended it")
    signal: str | None = Field(None, description="Name of the signal that ended it")
    code_bytes: int = Field(description="Size of the program")
    code_sha256: str = Field(description="SHA-256 of the program, in hexadecimal digits")
    stdout_bytes: int | None = Field(None, description="Bytes that the program wrote to standard output")
    stderr_bytes: int | None = Field(None, description="Bytes that the program wrote to standard error")
    caller: str = Field(description="Name of the token that asked for it")
    user_agent: str | None = Field(None, description="The client, as it names itself")
    request_id: str = Field(description="Id of the request, also in the server's log")
    session_id: str | None = Field(None, description="Id of the session that it ran in")
    code: str | None = Field(None, description="The program, where the operator keeps programs (CODEX_HISTORY_CODE)")
    stdout: str | None = Field(None, description="Its standard output, where the operator keeps it")
    stderr: str | None = Field(None, description="Its standard error, where the operator keeps it")

    @property
    def ended(self) -> bool:
        """Whether its end is known."""
        return self.status not in (QUEUED, RUNNING)


class History:
    """Writes entries behind the executions, and reads them newest first.

    ``days`` and ``entries`` bound what is kept.
    """

    def __init__(self, store: Store, *, days: float, entries: int, clock: Callable[[], float] = since_epoch) -> None:
        self._store, self._days, self._entries, self._clock = store, days, entries, clock
        self._waiting: dict[str, tuple[str, ExecutionEntry]] = {}
        self._untrimmed = 0
        self._writer: asyncio.Task[None] | None = None

    def note(self, owner: str, entry: ExecutionEntry) -> None:
        """Add the entry, or put it in the place of an earlier one of the same execution; written a moment later."""
        self._waiting[entry.execution_id] = owner, entry
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_later())

    async def write(self, owner: str, entry: ExecutionEntry) -> None:
        """Add the entry behind those that wait; it is durable when this returns."""
        self._waiting[entry.execution_id] = owner, entry
        await self.flush()

    async def _put_all(self, entries: Iterable[tuple[str, ExecutionEntry]]) -> None:
        end = self._clock() + self._days * _DAY
        await self._store.put_all(
            TABLE,
            [Entry(entry.execution_id, entry.model_dump_json().encode(), owner, end) for owner, entry in entries],
        )

    async def find(self, execution_id: str, owner: str) -> ExecutionEntry | None:
        """The entry of that execution, if ``owner`` submitted it."""
        if waiting := self._waiting.get(execution_id):
            return waiting[1] if waiting[0] == owner else None
        record = await self._store.get(TABLE, execution_id)
        return _entry(record.value) if record and record.owner == owner else None

    async def page(self, owner: str | None, before: int | None, limit: int) -> tuple[list[ExecutionEntry], int | None]:
        """Entries of ``owner`` (None: of everybody), newest first, and the cursor of the next page."""
        await self._try_to_flush()
        page = await self._store.page(TABLE, owner=owner, before=before, limit=limit)
        return [_entry(record.value) for record in page.records], page.before

    async def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, {}
        try:
            if waiting:
                await self._put_all(waiting.values())
        except StoreUnusable:
            kept = dict(list(waiting.items())[-_MOST_WAITING:])
            self._waiting = kept | self._waiting
            raise
        self._untrimmed += len(waiting)
        if self._untrimmed >= _TRIM_EVERY:
            self._untrimmed = 0
            await self._store.trim(TABLE, max_rows=self._entries, max_bytes=_MOST_BYTES)

    async def close(self) -> None:
        """Write what waits, for the last time."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        await self._try_to_flush()

    async def _write_later(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(_WRITE_SECONDS)
                await self._try_to_flush()
        finally:
            self._writer = None

    async def _try_to_flush(self) -> None:
        """A history that cannot be written is no reason to run nothing."""
        try:
            await self.flush()
        except StoreUnusable as error:
            _log.warning("executions wait to be written into the history", extra={"cause": error.detail})


def _entry(value: bytes) -> ExecutionEntry:
    return ExecutionEntry.model_validate_json(value)
