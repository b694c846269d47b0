"""Secrets of the server's own, with which it knows again what it has handed out."""

import secrets

from codex_server.store.base import Store

_TABLE = "secrets"
_SECRET_BYTES = 32


async def server_secret(store: Store, name: str) -> bytes:
    """The secret of that name: made once, and the same after a restart."""
    await store.put(_TABLE, name, secrets.token_bytes(_SECRET_BYTES), only_if_absent=True)
    record = await store.get(_TABLE, name)
    assert record is not None  # noqa: S101 - it never expires
    return record.value
