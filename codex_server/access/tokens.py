"""Bearer tokens: ``codex_`` and 43 url-safe characters, shown once, stored as a hash."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from codex_server.access.tokentable import TokenTable
from codex_server.errors import StartupError
from codex_server.ids import new_id

PREFIX = "codex_"
FIRST_NAME = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")


class Scope(StrEnum):
    """What a token allows: a closed set."""

    EXECUTE = "execute"
    """Run code."""
    METRICS = "metrics"
    """Read ``/metrics``."""


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; the token itself is not kept. Times are aware and in UTC."""

    id: str
    name: str
    scopes: frozenset[Scope]
    hash: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def valid_at(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Verifier(Protocol):
    """Tells whether what a caller presents is a token."""

    def verify(self, presented: str) -> Token | None:
        """The token, or None when it is unknown, expired or revoked."""


def hash_token(token: str) -> str:
    """SHA-256 in hexadecimal.

    A slow hash would buy nothing: it defends guessable passwords, and a token is 256 bits of chance. A fast one keeps
    its cost out of each request.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def find_token(tokens: Iterable[Token], presented: str) -> Token | None:
    """The token with ``presented``'s hash.

    INVARIANT: every stored hash is compared, each in constant time, so the time taken tells nothing of what is stored.
    """
    digest = hash_token(presented)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.hash, digest):
            found = token
    return found


class FixedToken:
    """The one token of ``CODEX_API_TOKEN``: it has every scope, and stands in place of the stored ones."""

    def __init__(self, secret: str) -> None:
        self._token = Token("tok_environment", "CODEX_API_TOKEN", ALL_SCOPES, hash_token(secret), datetime.now(UTC))

    def verify(self, presented: str) -> Token | None:
        """The token, when ``presented`` is it."""
        return find_token([self._token], presented)


class TokenStore:
    """The tokens in the store of the state folder; another process's changes are seen at the next call.

    Each method raises ``StartupError`` when they cannot be read or written; nothing is changed then.
    """

    def __init__(self, state_dir: Path) -> None:
        self._table = TokenTable(state_dir)
        self._rows: object = None
        self._tokens: list[Token] = []

    def verify(self, presented: str) -> Token | None:
        """The token, or None when it is unknown, expired or revoked."""
        token = find_token(self.list(), presented)
        return token if token and token.valid_at(datetime.now(UTC)) else None

    def close(self) -> None:
        """Let the file go; the next call opens it again."""
        self._table.close()

    def list(self) -> list[Token]:
        """Every token, revoked and expired ones too, the oldest first."""
        rows = self._table.rows()
        if rows is not self._rows:
            self._tokens, self._rows = [_from_row(row) for row in rows], rows
        return self._tokens[:]

    def create(
        self, name: str, scopes: Iterable[Scope] = ALL_SCOPES, expires_in: timedelta | None = None
    ) -> tuple[str, Token]:
        """A new token, which is shown this once, and its record.

        Raises ``StartupError`` when the name is not usable or a valid token bears it.
        """
        if not _NAME.fullmatch(name):
            raise StartupError(
                f"{name[:80]!r} cannot name a token; use 1 to 64 letters, digits, spaces, dots, dashes or underscores"
            )
        secret = PREFIX + secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        expiry = now + expires_in if expires_in is not None else None
        token = Token(new_id("tok"), name, frozenset(scopes), hash_token(secret), now, expiry)
        with self._table.changing() as rows:
            if any(old.name == name and old.valid_at(now) for old in map(_from_row, rows)):
                raise StartupError(f"there is a token named {name!r}; choose another name, or revoke that one first")
            rows.append(_to_row(token))
        return secret, token

    def revoke(self, name_or_id: str) -> Token:
        """Make the token useless from now on; it stays in the list.

        Raises ``StartupError`` when no token that is not revoked yet has that name or id.
        """
        now = datetime.now(UTC)
        with self._table.changing() as rows:
            named = [(i, token) for i, token in enumerate(map(_from_row, rows)) if name_or_id in (token.id, token.name)]
            for index, token in named:
                if token.revoked_at is None:
                    revoked = replace(token, revoked_at=now)
                    rows[index] = _to_row(revoked)
                    return revoked
        if named:
            raise StartupError(f"{name_or_id[:80]!r} is revoked already")
        raise StartupError(f"no token has the name or id {name_or_id[:80]!r}; `codex-server token list` shows them")

    def ensure_first_token(self) -> str | None:
        """A token named ``default`` when there has never been one, else None: a restart keeps what there is."""
        self._table.migrate()
        if self._table.rows():
            return None
        return self.create(FIRST_NAME)[0]


def _to_row(token: Token) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": sorted(token.scopes),
        "hash": token.hash,
        "created_at": token.created_at.isoformat(),
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
        "revoked_at": token.revoked_at.isoformat() if token.revoked_at else None,
    }


def _from_row(row: dict[str, object]) -> Token:
    return Token(
        id=str(row["id"]),
        name=str(row["name"]),
        # A scope of a newer version is dropped here: an unknown word must never widen what a token allows.
        scopes=frozenset(Scope(word) for word in _words(row["scopes"]) if word in ALL_SCOPES),
        hash=str(row["hash"]),
        created_at=datetime.fromisoformat(str(row["created_at"])),
        expires_at=_moment(row["expires_at"]),
        revoked_at=_moment(row["revoked_at"]),
    )


def _words(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []


def _moment(value: object) -> datetime | None:
    return datetime.fromisoformat(str(value)) if value else None
