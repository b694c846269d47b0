"""Where tokens are kept: a table in the store's file, read again only when somebody changed it."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from codex_server.access.tokenfile import Row, TokenFile, is_row
from codex_server.errors import StartupError
from codex_server.store.base import since_epoch
from codex_server.store.folder import is_frozen, stat_state
from codex_server.store.sqlite import FILE_NAME

if TYPE_CHECKING:
    from codex_server.store.database import Database

TABLE = "tokens"
MAX_TOKENS = 100_000
_NONE: list[Row] = []


class TokenTable:
    """Rows by id. A check costs one ``stat`` and a look at SQLite's change counter while nothing changed.

    INVARIANT: rows of ``tokens.json`` count until they are in the table, and never again once they are: what was
    revoked stays revoked though the old file comes back.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME
        self._old = TokenFile(state_dir / "tokens.json")
        self._database: Database | None = None
        self._file: tuple[int, ...] | None = None
        self._frozen = self._moved = False
        self._seen: tuple[object, list[Row]] | None = None
        self._rows: list[Row] = []

    def rows(self) -> list[Row]:
        """What is kept now, the oldest first, the same list while it is unchanged; reading makes no file.

        Raises ``StartupError`` when it cannot be read or is damaged: better no token than the wrong ones.
        """
        old = self._not_moved()
        seen = (self._stamp(), old)
        if self._seen is None or seen[0] != self._seen[0] or old is not self._seen[1]:
            self._rows, self._seen = _merged(old, self._kept()), seen
        return self._rows

    @contextmanager
    def changing(self) -> Iterator[list[Row]]:
        """A copy of the rows to change; kept when the block ends without an error, together with what was migrated.

        Other processes that want to change them wait meanwhile. Raises ``StartupError``.
        """
        database = self._opened(self._identity())
        with database.transaction():
            kept = self._kept()
            rows = [dict(row) for row in _merged(self._old.rows(), kept)]
            yield rows
            for row in rows:
                if row not in kept:
                    database.put(TABLE, str(row["id"]), json.dumps(row).encode(), "", None, only_if_absent=False)
        self._seen = None
        if self._old.exists():
            self._old.retire()

    def migrate(self) -> None:
        """Move the rows of ``tokens.json`` into the table; they stay where the folder cannot be written."""
        if self._old.exists() and os.access(self._path.parent, os.W_OK):
            with self.changing():
                pass

    def close(self) -> None:
        """Let the file go; the next call opens it again."""
        if self._database:
            self._database.close()
        self._database, self._file, self._seen = None, None, None

    def _not_moved(self) -> list[Row]:
        """The rows of ``tokens.json``; once there is no such file, nobody looks for it any more."""
        self._moved = self._moved or not self._old.exists()
        return _NONE if self._moved else self._old.rows()

    def _stamp(self) -> tuple[object, int] | None:
        """Another value after each change by anybody else; None when there is no file."""
        file = self._identity()
        if file is None:
            self.close()
            return None
        return file, self._opened(file).version()

    def _opened(self, file: tuple[int, ...] | None) -> "Database":
        """The file that has the name now, which is made when it is missing."""
        if self._database is None or file != self._file:
            from codex_server.store.database import Database  # noqa: PLC0415 - SQLite is loaded when it is needed

            self._database = Database(self._path, since_epoch)
            self._database.survive_power_loss()
            self._frozen = is_frozen(self._path)
            self._file = self._identity()
        return self._database

    def _identity(self) -> tuple[int, ...] | None:
        status = stat_state(self._path)
        if status is None:
            return None
        # SQLite counts no changes in a file that it was told nobody changes.
        more = (status.st_mtime_ns, status.st_size) if self._frozen else ()
        return (status.st_dev, status.st_ino, *more)

    def _kept(self) -> list[Row]:
        if self._database is None:
            return []
        return [self._parse(record.value) for record in self._database.follow(TABLE, 0, MAX_TOKENS)]

    def _parse(self, value: bytes) -> Row:
        try:
            row: object = json.loads(value)
        except ValueError as error:
            raise self._damaged() from error
        if not isinstance(row, dict) or not is_row(row):
            raise self._damaged()
        return row

    def _damaged(self) -> StartupError:
        return StartupError(
            f"{self._path} is damaged: a token in it has a wrong shape. It was left as it is; restore a copy of it, or "
            "move it away (a new first token is then made at the next start, and callers need it)"
        )


def _merged(old: Sequence[Row], kept: Sequence[Row]) -> list[Row]:
    known = {row["id"] for row in kept}
    return [*(row for row in old if row["id"] not in known), *kept]
