"""``access/tokens.py`` and ``tokenfile.py``: bearer tokens, kept as hashes."""

import hashlib
import hmac
import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from codex_server.access.tokens import (
    ALL_SCOPES,
    FixedToken,
    Scope,
    Token,
    TokenStore,
    find_token,
    hash_token,
)
from codex_server.errors import StartupError


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(folder):
    return TokenStore(folder)


def test_a_token_is_codex_and_43_url_safe_characters(store):
    secret, _ = store.create("ci")
    assert re.fullmatch(r"codex_[A-Za-z0-9_-]{43}", secret)


def test_a_created_token_is_recognised_and_another_one_is_not(store):
    secret, token = store.create("ci")
    assert store.verify(secret) == token
    assert store.verify(secret[:-1] + ("a" if secret[-1] != "a" else "b")) is None
    assert store.verify("") is None
    assert store.verify("\ud800") is None


def with_hash(digest):
    return Token("tok_1", "ci", ALL_SCOPES, digest, datetime.now(UTC))


def test_what_is_kept_of_a_token_is_its_whole_sha_256(store):
    secret, token = store.create("ci")
    assert token.hash == hashlib.sha256(secret.encode()).hexdigest()


def test_a_hash_that_differs_in_any_one_digit_is_another_tokens():
    digest = hash_token("presented")
    near = [digest[:place] + "ab"[digest[place] == "a"] + digest[place + 1 :] for place in range(64)]
    assert find_token([with_hash(digest)], "presented")
    assert find_token(map(with_hash, near), "presented") is None
    assert find_token([with_hash(digest[:-1]), with_hash("")], "presented") is None


def test_every_stored_hash_is_compared_in_constant_time_and_by_nothing_else(monkeypatch):
    compared = []

    def compare(stored, presented):
        compared.append((stored, presented))
        return stored == "second"

    monkeypatch.setattr(hmac, "compare_digest", compare)
    digest = hash_token("presented")
    stored = ["first", "second", digest, "last"]
    found = find_token(map(with_hash, stored), "presented")
    assert found is not None
    assert found.hash == "second"
    assert compared == [(each, digest) for each in stored]


def test_the_constant_time_comparison_alone_decides_for_both_kinds_of_token(store, monkeypatch):
    secret, _ = store.create("ci")
    fixed = FixedToken(secret)
    assert store.verify(secret)
    assert fixed.verify(secret)
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: False)
    assert store.verify(secret) is None
    assert fixed.verify(secret) is None


def test_the_token_itself_is_nowhere_in_the_folder(store, folder):
    secret, _ = store.create("ci")
    texts = [file.read_text() for file in folder.iterdir()]
    assert texts
    assert not any(secret in text or secret.removeprefix("codex_") in text for text in texts)


def test_the_file_is_for_its_owner_alone(store, folder):
    store.create("ci")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_token_has_every_scope_unless_told_otherwise(store):
    assert store.create("all")[1].scopes == ALL_SCOPES
    assert store.create("few", [Scope.METRICS])[1].scopes == {Scope.METRICS}


def test_a_revoked_token_is_refused_and_stays_listed(store):
    secret, token = store.create("ci")
    store.revoke("ci")
    assert store.verify(secret) is None
    (listed,) = store.list()
    assert listed.id == token.id
    assert listed.revoked_at is not None


def test_a_token_can_be_revoked_by_its_id(store):
    secret, token = store.create("ci")
    store.revoke(token.id)
    assert store.verify(secret) is None


def test_an_unknown_token_cannot_be_revoked(store):
    store.create("ci")
    with pytest.raises(StartupError, match="token list"):
        store.revoke("nobody")


def test_a_token_that_is_revoked_already_is_told_as_that(store):
    _, token = store.create("ci")
    store.revoke("ci")
    for word in ("ci", token.id):
        with pytest.raises(StartupError, match=f"'{word}' is revoked already"):
            store.revoke(word)


def test_a_token_is_refused_once_it_has_expired(store):
    with time_machine.travel("2026-01-01T00:00:00Z", tick=False) as clock:
        secret, _ = store.create("ci", expires_in=timedelta(hours=1))
        clock.shift(3599)
        assert store.verify(secret) is not None
        clock.shift(1)
        assert store.verify(secret) is None


def test_a_name_is_free_again_after_its_token_was_revoked(store):
    store.create("ci")
    with pytest.raises(StartupError, match="another name"):
        store.create("ci")
    store.revoke("ci")
    store.create("ci")
    assert [token.name for token in store.list()] == ["ci", "ci"]


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "-x", "a/b", "\x1b[31m"])
def test_a_name_that_would_not_show_well_is_refused(store, name):
    with pytest.raises(StartupError, match="cannot name"):
        store.create(name)


def test_a_change_that_keeps_the_size_of_the_file_is_seen_too(store, folder):
    secret, token = store.create("ci")
    assert store.verify(secret)
    file = folder / "tokens.json"
    with file.open("r+") as same:
        text = same.read().replace(token.hash, "0" * len(token.hash))
        same.seek(0)
        same.write(text)
    assert store.verify(secret) is None


def test_another_process_sees_changes_at_once(store, folder):
    other = TokenStore(folder)
    secret, token = store.create("ci")
    assert other.verify(secret) == token
    other.revoke("ci")
    assert store.verify(secret) is None


def test_deleting_the_file_refuses_every_token(store, folder):
    secret, _ = store.create("ci")
    assert store.verify(secret)
    (folder / "tokens.json").unlink()
    assert store.verify(secret) is None


def test_many_writers_at_once_lose_nothing(folder):
    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(lambda n: TokenStore(folder).create(f"t{n}")[0], range(24)))
    store = TokenStore(folder)
    assert len(store.list()) == 24
    assert all(store.verify(secret) for secret in secrets)


def test_the_first_start_makes_one_token_and_a_restart_keeps_it(store, folder):
    secret = store.ensure_first_token()
    assert store.verify(secret).name == "default"
    assert TokenStore(folder).ensure_first_token() is None
    assert TokenStore(folder).verify(secret)


def test_a_restart_makes_no_token_behind_the_back_of_who_revoked_the_last_one(store):
    store.ensure_first_token()
    store.revoke("default")
    assert store.ensure_first_token() is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version": 2, "tokens": []}',
        '{"version": 1, "tokens": {}}',
        '{"version": 1, "tokens": [{"id": "x"}]}',
        '{"version": 1, "tokens": [1]}',
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
)
def test_a_damaged_file_stops_the_start_and_is_left_as_it_is(store, folder, content):
    content = content if isinstance(content, bytes) else content.encode()
    folder.mkdir()
    (folder / "tokens.json").write_bytes(content)
    for attempt in (store.list, store.ensure_first_token, lambda: store.create("x"), lambda: store.verify("x")):
        with pytest.raises(StartupError, match=r"damaged|read"):
            attempt()
    assert (folder / "tokens.json").read_bytes() == content


def test_a_row_with_a_wrong_time_is_damage(store, folder):
    store.create("ci")
    content = json.loads((folder / "tokens.json").read_text())
    content["tokens"][0]["expires_at"] = "tomorrow"
    (folder / "tokens.json").write_text(json.dumps(content))
    with pytest.raises(StartupError, match="token 0"):
        store.list()


def test_a_scope_of_a_newer_version_allows_nothing_here(store, folder):
    store.create("ci", [Scope.EXECUTE])
    content = json.loads((folder / "tokens.json").read_text())
    content["tokens"][0]["scopes"].append("everything")
    (folder / "tokens.json").write_text(json.dumps(content))
    assert TokenStore(folder).list()[0].scopes == {Scope.EXECUTE}
    content["tokens"][0]["scopes"] = ["everything"]
    (folder / "tokens.json").write_text(json.dumps(content))
    assert TokenStore(folder).list()[0].scopes == frozenset()


def test_a_full_disk_leaves_the_old_tokens_whole(store, folder, monkeypatch):
    secret, _ = store.create("ci")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StartupError, match=r"\(No space left on device\), so nothing was changed: make room there, or"):
        store.create("second")
    monkeypatch.undo()
    assert store.verify(secret)
    assert [token.name for token in TokenStore(folder).list()] == ["ci"]
    assert sorted(file.name for file in folder.iterdir()) == ["tokens.json", "tokens.lock"]


@pytest.mark.parametrize("attempt", [TokenStore.list, lambda store: store.create("ci")])
def test_a_file_in_the_place_of_the_folder_is_told_as_that(tmp_path, attempt):
    file = tmp_path / "file"
    file.write_text("")
    told = f"the state folder {file} is a file; name a folder with --state-dir or CODEX_STATE_DIR"
    with pytest.raises(StartupError) as error:
        attempt(TokenStore(file))
    assert error.value.detail == told


@pytest.mark.parametrize("attempt", [TokenStore.list, lambda store: store.create("ci")])
def test_a_folder_that_cannot_be_made_is_named_with_the_cause(tmp_path, attempt):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "state"
    with pytest.raises(StartupError) as error:
        attempt(TokenStore(folder))
    assert error.value.detail == (
        f"the state folder {folder} cannot be made (Not a directory); "
        "name one that this account may write with --state-dir or CODEX_STATE_DIR"
    )


def test_a_file_that_may_not_be_read_names_the_cause_once_and_the_cure(store, folder, monkeypatch):
    store.create("ci")

    def closed(*_args, **_more):
        raise PermissionError(13, "Permission denied", str(folder / "tokens.json"))

    monkeypatch.setattr("codex_server.access.tokenfile.read_file", closed)
    with pytest.raises(StartupError) as error:
        TokenStore(folder).list()
    assert error.value.detail == (
        f"{folder / 'tokens.json'} cannot be read (Permission denied): give this account the right to read it, "
        "or set CODEX_STATE_DIR to another folder"
    )


def test_the_token_of_the_environment_stands_alone_with_every_scope():
    verifier = FixedToken("a-secret-of-16-characters")
    assert verifier.verify("a-secret-of-16-characters").scopes == ALL_SCOPES
    assert verifier.verify("a-secret-of-16-character") is None
