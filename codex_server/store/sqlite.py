"""The store in one SQLite file of the state folder, for this machine: the default."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from codex_server.errors import StoreUnusable
from codex_server.store.base import Entry, Page, Record, Size, Store, since_epoch

if TYPE_CHECKING:
    from codex_server.store.database import Database

FILE_NAME = "state.sqlite3"
_T = TypeVar("_T")


class SqliteStore(Store):
    """Opened when it is first used. One thread does all the work, so calls keep their order and block no event loop."""

    def __init__(self, state_dir: Path, clock: Callable[[], float] = since_epoch) -> None:
        self._path, self._clock = state_dir / FILE_NAME, clock
        self._thread = ThreadPoolExecutor(1, "store")
        self._database: Database | None = None
        self._closed = False

    async def get(self, table: str, key: str) -> Record | None:
        """As ``Store.get``."""
        return await self._do(lambda database: database.get(table, key))

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
        return await self._do(
            lambda database: database.put(table, key, value, owner, expires_at, only_if_absent=only_if_absent)
        )

    async def put_all(self, table: str, entries: Sequence[Entry]) -> None:
        """As ``Store.put_all``."""
        await self._do(lambda database: database.put_all(table, entries))

    async def delete(self, table: str, key: str, *, expected: bytes | None = None) -> bool:
        """As ``Store.delete``."""
        return await self._do(lambda database: database.delete(table, key, expected))

    async def page(self, table: str, *, owner: str | None = None, before: int | None = None, limit: int = 100) -> Page:
        """As ``Store.page``."""
        return await self._do(lambda database: database.page(table, owner, before, limit))

    async def follow(self, table: str, *, after: int = 0, limit: int = 100) -> tuple[Record, ...]:
        """As ``Store.follow``."""
        return await self._do(lambda database: database.follow(table, after, limit))

    async def size(self, table: str, *, owner: str | None = None) -> Size:
        """As ``Store.size``."""
        return await self._do(lambda database: database.size(table, owner))

    async def add(
        self, table: str, key: str, amounts: Mapping[str, float], *, expires_at: float | None = None
    ) -> Mapping[str, float]:
        """As ``Store.add``."""
        return await self._do(lambda database: database.add(table, key, amounts, expires_at))

    async def trim(self, table: str, *, max_rows: int, max_bytes: int) -> int:
        """As ``Store.trim``."""
        return await self._do(lambda database: database.trim(table, max_rows, max_bytes))

    async def sweep(self) -> int:
        """As ``Store.sweep``."""
        return await self._do(lambda database: database.sweep())

    async def close(self) -> None:
        """As ``Store.close``."""
        if self._closed:
            return
        self._closed = True
        if self._database:
            await self._do(lambda database: database.close())
        self._thread.shutdown()

    async def _do(self, work: Callable[["Database"], _T]) -> _T:
        try:
            job = asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)
        except RuntimeError as error:  # a host without a process left; nothing of the work was begun
            raise StoreUnusable(f"no thread for the store can be started: {error}") from error
        # Without the shield a cancelled caller would take its job out of the queue.
        return await asyncio.shield(job)

    def _run(self, work: Callable[["Database"], _T]) -> _T:
        if self._database is None:
            from codex_server.store.database import Database  # noqa: PLC0415 - SQLite is loaded when it is needed

            self._database = Database(self._path, self._clock)
        return work(self._database)
