"""The work of the SQLite store, in the calling thread. Imported when the store is first used."""

import sqlite3
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from codex_server.store.base import Entry, Page, Record, Size
from codex_server.store.schema import open_file, unusable

SWEEP_SECONDS = 600.0
"""How long what has expired may stay in the file of a store that is written to."""
_COLUMNS = "key, value, owner, sequence, created_at, expires_at"
_ALIVE = "(expires_at IS NULL OR expires_at > :now)"


class Database:
    """One connection; each method is a transaction. Its clock tells seconds since the epoch."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._connection = open_file(path)
        # Where nobody closes it: the last connection takes the log beside the file with it.
        self._closing = weakref.finalize(self, self._connection.close)
        self._swept = -SWEEP_SECONDS

    def get(self, table: str, key: str) -> Record | None:
        """As ``Store.get``."""
        rows = self._records("tab = :tab AND key = :key", tab=table, key=key)
        return rows[0] if rows else None

    def put(
        self, table: str, key: str, value: bytes, owner: str, expires_at: float | None, *, only_if_absent: bool
    ) -> bool:
        """As ``Store.put``."""
        update = "UPDATE SET value = :value, bytes = :bytes, owner = :owner, expires_at = :expires_at"
        conflict = "NOTHING" if only_if_absent else update
        row = {"tab": table, "key": key, "value": value, "bytes": len(value), "owner": owner, "expires_at": expires_at}
        with self._writing() as now:
            self._execute("DELETE FROM records WHERE tab = :tab AND key = :key AND expires_at <= :now", **row, now=now)
            statement = (
                "INSERT INTO records (tab, key, owner, bytes, created_at, expires_at, value) "  # noqa: S608 - constants
                f"VALUES (:tab, :key, :owner, :bytes, :now, :expires_at, :value) ON CONFLICT DO {conflict}"
            )
            return self._execute(statement, **row, now=now).rowcount == 1

    def put_all(self, table: str, entries: Sequence[Entry]) -> None:
        """As ``Store.put_all``."""
        with self.transaction():
            for entry in entries:
                self.put(table, entry.key, entry.value, entry.owner, entry.expires_at, only_if_absent=False)

    def delete(self, table: str, key: str, expected: bytes | None) -> bool:
        """As ``Store.delete``."""
        statement = (
            "DELETE FROM records WHERE tab = :tab AND key = :key AND (:expected IS NULL OR value = :expected) "  # noqa: S608 - constants
            f"AND {_ALIVE}"
        )
        with self._writing() as now:
            return self._execute(statement, tab=table, key=key, expected=expected, now=now).rowcount == 1

    def page(self, table: str, owner: str | None, before: int | None, limit: int) -> Page:
        """As ``Store.page``."""
        place = "tab = :tab" + (" AND owner = :owner" if owner is not None else "")
        if before is not None:
            place += " AND sequence < :before"
        order = "ORDER BY sequence DESC LIMIT :limit"
        # One more than is asked for tells whether there is a next page.
        rows = self._records(place, order, tab=table, owner=owner, before=before, limit=limit + 1)
        return Page(rows[:limit], rows[limit - 1].sequence if len(rows) > limit else None)

    def follow(self, table: str, after: int, limit: int) -> tuple[Record, ...]:
        """As ``Store.follow``."""
        order = "ORDER BY sequence LIMIT :limit"
        return self._records("tab = :tab AND sequence > :after", order, tab=table, after=after, limit=limit)

    def size(self, table: str, owner: str | None) -> Size:
        """As ``Store.size``."""
        place = "tab = :tab" + (" AND owner = :owner" if owner is not None else "")
        statement = f"SELECT count(*), coalesce(sum(bytes), 0) FROM records WHERE {place} AND {_ALIVE}"  # noqa: S608
        with self._reading():
            return Size(*self._execute(statement, tab=table, owner=owner, now=self._clock()).fetchone())

    def add(self, table: str, key: str, amounts: Mapping[str, float], expires_at: float | None) -> Mapping[str, float]:
        """As ``Store.add``."""
        place = {"tab": table, "key": key}
        read = f"SELECT name, amount FROM counters WHERE tab = :tab AND key = :key AND {_ALIVE}"  # noqa: S608
        if not amounts:
            with self._reading():
                return dict(self._execute(read, **place, now=self._clock()).fetchall())
        with self._writing() as now:
            self._execute(
                "DELETE FROM counters WHERE tab = :tab AND key = :key AND expires_at <= :now", **place, now=now
            )
            for name, amount in amounts.items():
                self._execute(
                    "INSERT INTO counters VALUES (:tab, :key, :name, :amount, :expires_at) ON CONFLICT DO UPDATE "
                    "SET amount = amount + :amount, expires_at = :expires_at",
                    **place,
                    name=name,
                    amount=amount,
                    expires_at=expires_at,
                )
            return dict(self._execute(read, **place, now=now).fetchall())

    def trim(self, table: str, max_rows: int, max_bytes: int) -> int:
        """As ``Store.trim``."""
        size = self.size(table, None)
        if size.rows <= max_rows and size.bytes <= max_bytes:
            return 0
        ranked = (
            "SELECT sequence, row_number() OVER newest AS place, sum(bytes) OVER newest AS total FROM records "  # noqa: S608
            f"WHERE tab = :tab AND {_ALIVE} WINDOW newest AS (ORDER BY sequence DESC)"
        )
        too_many = f"SELECT sequence FROM ({ranked}) WHERE place > :max_rows OR total > :max_bytes"  # noqa: S608
        statement = f"DELETE FROM records WHERE sequence IN ({too_many})"  # noqa: S608
        with self._writing() as now:
            return self._execute(statement, tab=table, max_rows=max_rows, max_bytes=max_bytes, now=now).rowcount

    def sweep(self) -> int:
        """As ``Store.sweep``."""
        with self._writing(sweeps=False) as now:
            return self._remove_expired(now)

    def close(self) -> None:
        """Close the connection; what is in the write-ahead log goes into the file if nobody else has it open."""
        self._closing()

    def version(self) -> int:
        """Another number once another connection has changed the file; costs a few microseconds."""
        with self._reading():
            return int(self._execute("PRAGMA data_version").fetchone()[0])

    def survive_power_loss(self) -> None:
        """Wait for the disk at each change from now on; else the last ones may be lost with the machine's power."""
        with self._reading():
            self._execute("PRAGMA synchronous = FULL")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done in the block happens at once, or not at all when it raises."""
        with self._writing():
            yield

    def _records(self, place: str, order: str = "", **values: object) -> tuple[Record, ...]:
        statement = f"SELECT {_COLUMNS} FROM records WHERE {place} AND {_ALIVE} {order}"  # noqa: S608 - constants
        with self._reading():
            return tuple(Record(*row) for row in self._execute(statement, **values, now=self._clock()))

    def _remove_expired(self, now: float) -> int:
        self._swept = now
        tables = ("records", "counters")
        return sum(self._execute(f"DELETE FROM {name} WHERE expires_at <= :now", now=now).rowcount for name in tables)  # noqa: S608

    def _execute(self, statement: str, **values: object) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise unusable(self._path, error) from error

    @contextmanager
    def _writing(self, *, sweeps: bool = True) -> Iterator[float]:
        """A transaction, and the time at which it happens; undone when the block raises."""
        now = self._clock()
        if self._connection.in_transaction:
            yield now
            return
        with self._reading():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if sweeps and not 0 <= now - self._swept < SWEEP_SECONDS:
                    self._remove_expired(now)
                yield now
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
