"""Cursors of lists: places that only this server can read, for their numbers count what all callers do."""

import base64
import binascii
import hashlib
import hmac

from codex_server.errors import InvalidRequest
from codex_server.service.server_secret import server_secret
from codex_server.store.base import Store

_BYTES = 8
_KEY_NAME = "cursors"


class Cursors:
    """The cursors of the list with that ``name``; each holds for the one caller that it was made for."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._secret: bytes | None = None

    async def seal(self, place: int | None, owner: str) -> str | None:
        """The cursor for ``place``, always the same one; None for no place."""
        if place is None:
            return None
        secret = await self._find_secret()
        number = place.to_bytes(_BYTES, "big")
        tag = self._tag(secret, number, owner)
        return base64.urlsafe_b64encode(tag + _mixed(secret, tag, number)).decode().rstrip("=")

    async def open(self, cursor: str | None, owner: str) -> int | None:
        """The place of ``cursor``. Raises ``InvalidRequest`` for one that was not made for ``owner`` and this list."""
        if cursor is None:
            return None
        secret = await self._find_secret()
        try:
            sealed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except (binascii.Error, ValueError):
            sealed = b""
        tag = sealed[:_BYTES]
        number = _mixed(secret, tag, sealed[_BYTES:])
        if len(sealed) != 2 * _BYTES or not hmac.compare_digest(tag, self._tag(secret, number, owner)):
            raise InvalidRequest(
                "the cursor is not one of yours; send `next` of the page before, or leave it out to begin anew",
                "/query/cursor",
            )
        return int.from_bytes(number, "big")

    def _tag(self, secret: bytes, number: bytes, owner: str) -> bytes:
        return hmac.digest(secret, b"\n".join((number, self._name.encode(), owner.encode())), hashlib.sha256)[:_BYTES]

    async def _find_secret(self) -> bytes:
        if self._secret is None:
            self._secret = await server_secret(self._store, _KEY_NAME)
        return self._secret


def _mixed(secret: bytes, tag: bytes, number: bytes) -> bytes:
    """``number`` made unreadable, or readable again."""
    pad = hmac.digest(secret, b"pad\n" + tag, hashlib.sha256)
    return bytes(one ^ other for one, other in zip(number, pad, strict=False))
