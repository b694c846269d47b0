"""Who may call: tokens in the header, scopes, and a server without tokens."""

import contextlib
import sqlite3

import pytest

from codex_server.access.tokens import Scope, TokenStore

pytestmark = pytest.mark.anyio
BODY = {"code": "print 1"}


@pytest.fixture
async def stored(open_door, tmp_path):
    """A door whose tokens are in its state folder, and the store."""
    store = TokenStore(tmp_path / "state")
    store.ensure_first_token()
    async with open_door(api_token=None) as door:
        yield door, store


async def call(door, path="/execute", **headers):
    if path == "/execute":
        return await door.client.post(path, json=BODY, headers=headers)
    return await door.client.get(path, headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer codex_wrong"},
        {"Authorization": "Basic dGVzdDp0ZXN0"},
        {"Authorization": "codex_" + "t" * 43},
        {"X-API-Key": "codex_wrong"},
    ],
)
async def test_without_a_valid_token_the_response_is_401_and_says_how(door, headers):
    response = await call(door, **headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["code"] == "unauthenticated"
    assert "Authorization: Bearer" in response.json()["detail"]
    assert door.backend.executions == []


@pytest.mark.parametrize("value", ["codex_" + "t" * 43, "Basic dGVzdDp0ZXN0"])
async def test_a_field_that_does_not_begin_with_bearer_is_reported_and_not_repeated(door, value):
    detail = (await call(door, Authorization=value)).json()["detail"]
    assert detail == (
        "the Authorization field does not begin with `Bearer `; send `Authorization: Bearer codex_...`, "
        "or the token alone in `X-API-Key`"
    )


@pytest.mark.parametrize("value", ["", "Bearer", "bearer "])
async def test_a_field_without_a_token_is_reported(door, value):
    assert (await call(door, Authorization=value)).json()["detail"].startswith("there is no token; ")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_stored_token_is_taken(stored, scheme):
    door, store = stored
    secret, _ = store.create("ci")
    assert (await call(door, Authorization=f"{scheme} {secret}")).status_code == 200


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Authorization", "Bearer\t{}"),
        ("Authorization", "Bearer   {}"),
        ("Authorization", "Bearer: {}"),
        ("Authorization", "Bearer Bearer {}"),
        ("Authorization", 'Bearer "{}"'),
        ("Authorization", "'Bearer {}'"),
        ("Authorization", "Bearer <{}>"),
        ("Authorization", b"Bearer \xef\xbb\xbf{}"),
        ("X-API-Key", "Bearer {}"),
        ("X-API-Key", '"{}"'),
        ("X-API-Key", b"\xef\xbb\xbf{}"),
    ],
)
async def test_a_token_is_taken_with_what_came_along_when_it_was_copied(stored, name, written):
    door, store = stored
    secret, _ = store.create("ci")
    value = written.encode() if isinstance(written, str) else written
    assert (await call(door, **{name: value.replace(b"{}", secret.encode())})).status_code == 200
    assert (await call(door, **{name: value.replace(b"{}", b"codex_wrong")})).status_code == 401


async def test_a_token_that_is_not_ascii_is_the_bytes_that_clients_send(open_door):
    token = "\u043f\u0430\u0440\u043e\u043b\u044c-which-is-long"
    async with open_door(api_token=token) as door:
        assert (await call(door, Authorization=f"Bearer {token}".encode())).status_code == 200


async def test_the_key_header_is_taken_too(stored):
    door, store = stored
    secret, _ = store.create("ci")
    assert (await call(door, **{"X-API-Key": secret})).status_code == 200


async def test_a_token_in_the_address_is_not_read(stored):
    door, store = stored
    secret, _ = store.create("ci")
    for name in ("token", "access_token", "api_key", "authorization"):
        response = await door.client.post("/execute", params={name: secret}, json=BODY)
        assert response.status_code == 401


async def test_a_revoked_token_is_refused_at_once_without_a_restart(stored):
    door, store = stored
    secret, _ = store.create("ci")
    assert (await call(door, Authorization=f"Bearer {secret}")).status_code == 200
    store.revoke("ci")
    assert (await call(door, Authorization=f"Bearer {secret}")).status_code == 401


async def test_a_token_without_the_scope_is_forbidden(stored):
    door, store = stored
    reader, _ = store.create("reader", [Scope.METRICS])
    runner, _ = store.create("runner", [Scope.EXECUTE])
    assert (await call(door, Authorization=f"Bearer {reader}")).status_code == 403
    assert (await call(door, "/metrics", Authorization=f"Bearer {reader}")).status_code == 200
    refused = await call(door, "/metrics", Authorization=f"Bearer {runner}")
    assert refused.status_code == 403
    assert "'metrics'" in refused.json()["detail"]


async def test_the_token_of_the_environment_replaces_the_stored_ones(open_door, tmp_path):
    secret, _ = TokenStore(tmp_path / "state").create("ci")
    async with open_door() as door:
        assert (await call(door, Authorization=f"Bearer {secret}")).status_code == 401
        assert (await door.execute("print 1")).status_code == 200


async def test_tokens_damaged_while_serving_opens_nothing_and_shows_nothing(stored, tmp_path, caplog):
    door, store = stored
    secret, _ = store.create("ci")
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "state.sqlite3")) as connection, connection:
        connection.execute("UPDATE records SET value = '{'")
    response = await call(door, Authorization=f"Bearer {secret}")
    assert response.status_code == 500
    assert str(tmp_path) not in response.text
    assert "damaged" in "".join(str(getattr(record, "cause", "")) for record in caplog.records)


@pytest.mark.parametrize(
    "path", ["/", "/health", "/livez", "/readyz", "/languages", "/docs", "/openapi.json", "/problems"]
)
async def test_what_describes_the_server_is_open(door, path):
    assert (await door.client.get(path)).status_code == 200


async def test_without_tokens_everything_is_open(open_door):
    async with open_door(allow_no_auth=True) as door:
        assert (await call(door)).status_code == 200
        assert (await call(door, "/metrics")).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1.evil.example", "null", "http://[::"])
async def test_without_tokens_a_page_of_another_origin_runs_nothing(open_door, origin):
    async with open_door(allow_no_auth=True) as door:
        response = await call(door, Origin=origin)
        assert response.status_code == 403
        assert door.backend.executions == []


@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:8000", "http://localhost:3000", "http://[::1]:8000", "https://box.example"]
)
async def test_without_tokens_the_servers_own_pages_may_call(open_door, origin):
    async with open_door(allow_no_auth=True, public_url="https://box.example/") as door:
        assert (await call(door, Origin=origin)).status_code == 200


async def test_with_tokens_the_origin_does_not_matter(door):
    assert (await door.execute("print 1", headers={"Origin": "https://chat.example"})).status_code == 200


async def test_no_response_invites_other_origins(door):
    response = await door.client.options(
        "/execute", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert not [name for name in response.headers if name.startswith("access-control-")]
