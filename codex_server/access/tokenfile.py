"""The file that keeps the tokens: readable by its owner alone, replaced as a whole, locked while it changes."""

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from codex_server.errors import StartupError
from codex_server.files import open_lock, read_file, stat_file

Row = dict[str, object]
_VERSION = 1
_TEXTS = ("id", "name", "hash", "created_at")
_MOMENTS = ("created_at", "expires_at", "revoked_at")
_RIGHT_TO_WRITE = "give this account the right to write there, or "
_WRITING_CURES = {
    errno.EACCES: _RIGHT_TO_WRITE,
    errno.EPERM: _RIGHT_TO_WRITE,
    errno.ENOSPC: "make room there, or ",
    errno.EDQUOT: "make room there, or ",
}


class TokenFile:
    """Rows of JSON on disk. Reading costs one ``stat`` while the file is unchanged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._rows: list[Row] = []

    def rows(self) -> list[Row]:
        """What the file holds now; nothing when there is no file.

        Raises ``StartupError`` when it cannot be read or is damaged: better no token than the wrong ones.
        """
        seen = self._stamp()
        if seen is None:
            self._seen, self._rows = None, []
        elif seen != self._seen:
            self._rows = self._read()
            self._seen = seen
        return self._rows

    @contextmanager
    def changing(self) -> Iterator[list[Row]]:
        """A copy of the rows to change; written when the block ends without an error.

        Other processes that want to change the file wait meanwhile. Raises ``StartupError``.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._no_folder(error) from error
        name = self._path.with_suffix(".lock")
        try:
            lock = open_lock(name)
        except OSError as error:
            raise self._unwritable(error, name) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rows = [dict(row) for row in self.rows()]
            yield rows
            self._write(rows)
        finally:
            os.close(lock)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = stat_file(self._path)
        except OSError as error:
            raise self._unreadable(error) from error
        return (status.st_ino, status.st_mtime_ns, status.st_size) if status else None

    def _read(self) -> list[Row]:
        try:
            written = read_file(self._path)
            if written is None:
                return []  # it was removed just now
            content: object = json.loads(written)
        except OSError as error:
            raise self._unreadable(error) from error
        except ValueError as error:
            raise self._damaged(f"it is not JSON ({error})") from error
        if not isinstance(content, dict) or content.get("version") != _VERSION:
            raise self._damaged(f"it is not version {_VERSION} of the format")
        rows = content.get("tokens")
        if not isinstance(rows, list):
            raise self._damaged("it has no list of tokens")
        for number, row in enumerate(rows):
            if not _is_row(row):
                raise self._damaged(f"token {number} has a wrong shape")
        return rows

    def _write(self, rows: list[Row]) -> None:
        text = json.dumps({"version": _VERSION, "tokens": rows}, indent=1) + "\n"
        try:
            # mkstemp makes the file 0600; it is on the disk before it takes the old one's place, so a full disk or a
            # power cut leaves the old file whole.
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".tokens-")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(self._path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._unwritable(error, self._path) from error
        self._seen = None

    def _damaged(self, why: str) -> StartupError:
        return StartupError(
            f"{self._path} is damaged: {why}. It was left as it is; mend it or move it away (a new first token is then "
            "made at the next start, and callers need it)"
        )

    def _unreadable(self, error: OSError) -> StartupError:
        if isinstance(error, NotADirectoryError):
            return self._no_folder(error)
        cure = "give this account the right to read it, or " if isinstance(error, PermissionError) else ""
        return StartupError(
            f"{self._path} cannot be read ({error.strerror}): {cure}set CODEX_STATE_DIR to another folder"
        )

    def _unwritable(self, error: OSError, file: Path) -> StartupError:
        cure = _WRITING_CURES.get(error.errno or 0, "")
        return StartupError(
            f"{file} cannot be written ({error.strerror}), so nothing was changed: "
            f"{cure}set CODEX_STATE_DIR to another folder"
        )

    def _no_folder(self, error: OSError) -> StartupError:
        folder = self._path.parent
        # Only then may it be looked at: `is_file` would raise where the way there is closed.
        if isinstance(error, NotADirectoryError | FileExistsError) and os.path.lexists(folder) and not folder.is_dir():
            kind = "a file" if folder.is_file() else "no folder"
            return StartupError(
                f"the state folder {folder} is {kind}; name a folder with --state-dir or CODEX_STATE_DIR"
            )
        return StartupError(
            f"the state folder {folder} cannot be made ({error.strerror}); "
            "name one that this account may write with --state-dir or CODEX_STATE_DIR"
        )


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in _TEXTS):
        return False
    scopes = row.get("scopes")
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        return False
    return all(key in row and _is_moment(row[key]) for key in _MOMENTS)


def _is_moment(value: object) -> bool:
    if value is None:
        return True
    try:
        return datetime.fromisoformat(str(value)).tzinfo is not None
    except ValueError:
        return False
