"""``service/server_secret.py``: a secret is made once, and never twice the same."""

import pytest

from codex_server.service.server_secret import server_secret
from codex_server.store.memory import MemoryStore


@pytest.mark.anyio
async def test_a_secret_is_made_once_for_each_store_and_name():
    store = MemoryStore()
    secret = await server_secret(store, "links")
    assert len(secret) == 32
    assert await server_secret(store, "links") == secret
    assert await server_secret(store, "cursors") != secret
    assert await server_secret(MemoryStore(), "links") != secret
