"""``tokens.json``, where tokens were kept before the store: read until they are in it, never written."""

import json
from datetime import datetime
from pathlib import Path

from codex_server.errors import StartupError
from codex_server.files import read_file, stat_file
from codex_server.store.folder import folder_problem

Row = dict[str, object]
_VERSION = 1
_TEXTS = ("id", "name", "hash", "created_at")
_MOMENTS = ("created_at", "expires_at", "revoked_at")


class TokenFile:
    """Rows of JSON on disk. Reading costs one ``stat`` while the file is unchanged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._rows: list[Row] = []

    def rows(self) -> list[Row]:
        """What the file holds now, the same list while it is unchanged; nothing when there is no file.

        Raises ``StartupError`` when it cannot be read or is damaged: better no token than the wrong ones.
        """
        seen = self._stamp()
        if seen != self._seen:
            self._rows = self._read() if seen else []
            self._seen = seen
        return self._rows

    def exists(self) -> bool:
        """Whether the file is there. Raises ``StartupError`` when it is no file."""
        return self._stamp() is not None

    def retire(self) -> None:
        """Rename the file, whose rows are elsewhere now. Raises ``StartupError``."""
        kept = self._path.with_name(f"{self._path.name}.migrated")
        try:
            self._path.chmod(0o600)
            self._path.replace(kept)
            self._path.with_suffix(".lock").unlink(missing_ok=True)
        except OSError as error:
            raise StartupError(
                f"{self._path} cannot be renamed ({error.strerror}); its tokens are in the store now: move it away"
            ) from error

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
            if not is_row(row):
                raise self._damaged(f"token {number} has a wrong shape")
        return rows

    def _damaged(self, why: str) -> StartupError:
        return StartupError(
            f"{self._path} is damaged: {why}. It was left as it is; mend it or move it away (a new first token is then "
            "made at the next start, and callers need it)"
        )

    def _unreadable(self, error: OSError) -> StartupError:
        if isinstance(error, NotADirectoryError):
            return folder_problem(self._path.parent, error)
        remedy = "give this account the right to read it, or " if isinstance(error, PermissionError) else ""
        return StartupError(
            f"{self._path} cannot be read ({error.strerror}): {remedy}set CODEX_STATE_DIR to another folder"
        )


def is_row(row: object) -> bool:
    """Whether it has what a token needs, of the right kinds."""
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
