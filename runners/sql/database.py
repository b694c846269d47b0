"""One database of the workspace: opened, and SQL run on it within the limits of a request."""

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import table
from request import MEMORY, Refused, Request

_LONGEST_VALUE = 10_000_000
_MOST_CHARACTERS = 1_500_000
"""Of all rows together: the reply of a session's interpreter stays below 2 MiB."""
_BUSY_SECONDS = 0.5
"""Nobody else runs meanwhile, so a lock that another program holds is not given back by waiting."""
_STEPS = 2000
"""Instructions of SQLite's between two looks at the clock."""
_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_ALWAYS = {sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT}
_READING_PRAGMAS = frozenset((
    "application_id", "collation_list", "compile_options", "database_list", "encoding", "foreign_key_check",
    "foreign_key_list", "freelist_count", "function_list", "index_info", "index_list", "index_xinfo", "integrity_check",
    "module_list", "page_count", "page_size", "pragma_list", "quick_check", "schema_version", "table_info",
    "table_list", "table_xinfo", "user_version",
))  # fmt: skip
_EMPTY = re.compile(r"(?:\s|;|--[^\n]*|/\*(?:(?!\*/).)*(?:\*/|\Z))*", re.DOTALL)


class Interrupted(Exception):
    """The caller wants no more of it."""


@dataclass(frozen=True)
class Identity:
    """What tells one file from another of the same name."""

    device: int
    inode: int


class Database:
    """An open database. Raises ``Refused`` when it cannot be opened."""

    def __init__(self, path: str, *, read_only: bool) -> None:
        self._path = path
        self._end: float | None = None
        self._interrupted = False
        self._is_new = path != MEMORY and not os.path.lexists(path)
        if self._is_new and read_only:
            raise Refused(f"there is no database {path}, and read_only makes none")
        self._connection = self._connect(read_only)
        self._identity = self._look()

    def _connect(self, read_only: bool) -> sqlite3.Connection:
        place = MEMORY if self._path == MEMORY else f"file:{quote(self._path)}?mode={'ro' if read_only else 'rwc'}"
        try:
            connection = sqlite3.connect(place, timeout=_BUSY_SECONDS, isolation_level=None, uri=self._path != MEMORY)
        except sqlite3.Error as error:
            raise Refused(f"{self._path}: {error}") from error
        connection.text_factory = _text
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        connection.set_authorizer(_authorize_reading if read_only else _authorize)
        connection.set_progress_handler(self._is_over, _STEPS)
        return connection

    @property
    def is_current(self) -> bool:
        """Whether its file is still the one that has this name."""
        return self._look() == self._identity

    def run(self, sql: str, request: Request) -> table.Table:
        """Run every statement; the rows of the last. Raises ``Refused`` and ``Interrupted``."""
        statements = list(split(sql))
        if request.parameters and len(statements) != 1:
            raise Refused(f"parameters go with one statement, and there are {len(statements)}")
        self._end = time.monotonic() + request.timeout if request.timeout else None
        self._interrupted = False
        result = table.Table()
        for number, statement in enumerate(statements, 1):
            place = f"statement {number}: " if len(statements) > 1 else ""
            result = self._run_one(statement, request, place)
        return result

    def interrupt(self) -> None:
        """End the statement that runs; safe in a signal handler."""
        self._interrupted = True

    def close(self) -> None:
        """Roll back what was not committed. A file that was made for nothing goes again."""
        self._connection.close()
        if self._is_new and self._look() == self._identity and os.path.getsize(self._path) == 0:
            os.unlink(self._path)

    def _run_one(self, statement: str, request: Request, place: str) -> table.Table:
        if self._interrupted:
            raise Interrupted
        cursor = self._connection.cursor()
        try:
            cursor.execute(statement, request.parameters)
            return _rows(cursor, request.max_rows)
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
            if self._interrupted:
                raise Interrupted from error
            raise Refused(f"{place}{self._explain(error, request)}") from error
        finally:
            cursor.close()

    def _explain(self, error: Exception, request: Request) -> str:
        name = getattr(error, "sqlite_errorname", None)
        if name == "SQLITE_INTERRUPT":
            return f"it did not end within {request.timeout:g} seconds"
        if name == "SQLITE_AUTH":
            return f"{error}: ATTACH is not allowed{', nor is writing with read_only' if request.read_only else ''}"
        return str(error)

    def _is_over(self) -> bool:
        return self._interrupted or (self._end is not None and time.monotonic() > self._end)

    def _look(self) -> Identity | None:
        if self._path == MEMORY:
            return None
        try:
            facts = os.stat(self._path)
        except FileNotFoundError:
            return None
        return Identity(facts.st_dev, facts.st_ino)


def split(sql: str) -> Iterator[str]:
    """The statements of ``sql``; one that is empty or a comment is none."""
    sql = sql.removeprefix("\ufeff")
    start = 0
    for found in re.finditer(";", sql):
        if sqlite3.complete_statement(sql[start : found.end()]):
            yield from _unless_empty(sql[start : found.end()])
            start = found.end()
    yield from _unless_empty(sql[start:])


def _unless_empty(statement: str) -> list[str]:
    return [] if _EMPTY.fullmatch(statement) else [statement]


def _rows(cursor: sqlite3.Cursor, most: int) -> table.Table:
    if cursor.description is None:
        return table.Table(row_count=max(cursor.rowcount, 0))
    rows: list[table.Row] = []
    room, truncated = _MOST_CHARACTERS, False
    for row in cursor:
        rows.append([table.cell(value) for value in row])
        room -= table.size(rows[-1])
        if len(rows) > most or room < 0:
            rows.pop()
            truncated = True
            break
    return table.Table([name for name, *_ in cursor.description], rows, len(rows), truncated)


def _text(content: bytes) -> str | bytes:
    """Text, or the bytes of what is stored as text and is none."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _authorize(action: int, name: str | None, *_: Any) -> int:
    """Everything but other files: an unnamed database is what VACUUM attaches."""
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH and name else sqlite3.SQLITE_OK


def _authorize_reading(action: int, name: str | None, *_: Any) -> int:
    reads = action in _READS or action in _ALWAYS or (action == sqlite3.SQLITE_PRAGMA and name in _READING_PRAGMAS)
    return sqlite3.SQLITE_OK if reads else sqlite3.SQLITE_DENY
