"""The file of the store: made, recognised, brought to the version of this program, or refused and left as it is."""

import sqlite3
from pathlib import Path

from codex_server.errors import StoreUnusable
from codex_server.store.folder import RIGHTS, is_frozen, make_file

APPLICATION_ID = 0x43_6F_64_78
"""``Codx`` in the header of each file that is ours."""
BUSY_SECONDS = 5.0
"""How long a call waits for another process that writes."""
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE records (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            tab TEXT NOT NULL,
            key TEXT NOT NULL,
            owner TEXT NOT NULL,
            bytes INTEGER NOT NULL,
            created_at REAL NOT NULL,
            expires_at REAL,
            value BLOB NOT NULL,
            UNIQUE (tab, key)
        )""",
        "CREATE INDEX records_in_order ON records (tab, sequence, bytes, expires_at)",
        "CREATE INDEX records_of_owner ON records (tab, owner, sequence, bytes, expires_at)",
        "CREATE INDEX records_to_sweep ON records (expires_at) WHERE expires_at IS NOT NULL",
        """CREATE TABLE counters (
            tab TEXT NOT NULL,
            key TEXT NOT NULL,
            name TEXT NOT NULL,
            amount REAL NOT NULL,
            expires_at REAL,
            PRIMARY KEY (tab, key, name)
        ) WITHOUT ROWID""",
        "CREATE INDEX counters_to_sweep ON counters (expires_at) WHERE expires_at IS NOT NULL",
    ),
)
"""The statements that lead from each version of the schema to the next; the first makes a new file."""
_DAMAGED = "It was left as it is. Restore a copy of it, or move it away: what it kept is then gone"
_REMEDIES = {
    sqlite3.SQLITE_FULL: "Make room there, or set CODEX_STATE_DIR to another folder",
    sqlite3.SQLITE_IOERR: "Make room there and look at the disk, or set CODEX_STATE_DIR to another folder",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_BUSY: "Another process keeps it locked; end that one, then repeat this",
    sqlite3.SQLITE_READONLY: RIGHTS,
    sqlite3.SQLITE_CANTOPEN: RIGHTS,
    sqlite3.SQLITE_PERM: RIGHTS,
}


def open_file(path: Path) -> sqlite3.Connection:
    """A connection to the file, which is made when it is missing. Raises ``StoreUnusable``."""
    frozen = is_frozen(path)
    if not frozen:
        make_file(path)
    try:
        return _connect(path, frozen=frozen)
    except sqlite3.Error as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: sqlite3.Error) -> StoreUnusable:
    """``error`` with the file and the remedy."""
    # The low byte is the kind; the rest tells where in SQLite.
    remedy = _REMEDIES.get(
        getattr(error, "sqlite_errorcode", 0) & 0xFF, "Look at the file and its folder, then repeat this"
    )
    return StoreUnusable(f"{path} cannot be used ({error}). {remedy}")


def _connect(path: Path, *, frozen: bool) -> sqlite3.Connection:
    log = path.with_name(f"{path.name}-wal")
    if frozen and log.exists() and log.stat().st_size:
        raise StoreUnusable(f"{log} has changes that are not in {path.name} yet, and cannot be applied. {RIGHTS}")
    # SQLite keeps its log beside the file, unless it knows that nobody changes it.
    place = path.absolute().as_uri() + ("?mode=ro&immutable=1" if frozen else "")
    connection = sqlite3.connect(place, BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
    try:
        _prepare(connection, path, frozen=frozen)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, *, frozen: bool) -> None:
    _check_is_ours(connection, path)
    if frozen:
        return
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if _version(connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    for statements in MIGRATIONS[_version(connection) :]:  # another process may have been first
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")


def _check_is_ours(connection: sqlite3.Connection, path: Path) -> None:
    """INVARIANT: nothing was written to a file of somebody else or of a newer version."""
    connection.execute("BEGIN")
    (made_by,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    version = _version(connection)
    connection.execute("COMMIT")
    if made_by != APPLICATION_ID and (made_by or tables or version):
        raise StoreUnusable(f"{path} is a database of another program. Move it away, or set CODEX_STATE_DIR")
    if version > len(MIGRATIONS):
        raise StoreUnusable(
            f"{path} was written by a newer version of this program (schema {version}; this one knows "
            f"{len(MIGRATIONS)}). Start that version, or set CODEX_STATE_DIR to another folder"
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
