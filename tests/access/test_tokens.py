"""``access/tokens.py``, ``tokentable.py`` and ``tokenfile.py``: bearer tokens, kept as hashes."""

import gc
import hashlib
import hmac
import json
import re
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from codex_server.access.tokens import (
    ALL_SCOPES,
    FixedToken,
    Scope,
    Token,
    TokenStore,
    _to_row,
    find_token,
    hash_token,
)
from codex_server.errors import StartupError
from codex_server.store.sqlite import FILE_NAME


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


def change_row(folder, **fields):
    """Change the one token in the file, as another program would."""
    connection = sqlite3.connect(folder / FILE_NAME)
    with connection:
        ((value,),) = connection.execute("SELECT value FROM records").fetchall()
        connection.execute("UPDATE records SET value = ?", (json.dumps(json.loads(value) | fields).encode(),))
    connection.close()


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
    contents = [file.read_bytes() for file in folder.iterdir()]
    assert contents
    assert not any(secret.removeprefix("codex_").encode() in content for content in contents)


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


def test_a_change_by_another_program_is_seen_too(store, folder):
    secret, token = store.create("ci")
    assert store.verify(secret)
    change_row(folder, hash="0" * len(token.hash))
    assert store.verify(secret) is None


def test_a_file_that_took_the_place_of_the_old_one_is_read(store, folder, tmp_path):
    secret, _ = store.create("ci")
    other, _ = TokenStore(tmp_path / "other").create("other")
    gc.collect()  # closed, so that all is in the one file
    (tmp_path / "other" / FILE_NAME).replace(folder / FILE_NAME)
    for log in folder.glob(f"{FILE_NAME}-*"):
        log.unlink()
    assert store.verify(secret) is None
    assert store.verify(other)


def test_another_process_sees_changes_at_once(store, folder):
    other = TokenStore(folder)
    secret, token = store.create("ci")
    assert other.verify(secret) == token
    other.revoke("ci")
    assert store.verify(secret) is None


def test_deleting_the_file_refuses_every_token(store, folder):
    secret, _ = store.create("ci")
    assert store.verify(secret)
    for file in folder.iterdir():
        file.unlink()
    assert store.verify(secret) is None
    assert list(folder.iterdir()) == []


def test_the_command_in_another_process_makes_and_ends_a_token_for_this_one_at_once(store, folder):
    def run(*arguments):
        command = [sys.executable, "-m", "codex_server", "token", *arguments, "--state-dir", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    assert store.list() == []
    secret = run("create", "ci")
    assert store.verify(secret)
    run("revoke", "ci")
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


@pytest.mark.parametrize("field", [{"expires_at": "tomorrow"}, {"hash": None}, {"scopes": "all"}])
def test_a_row_of_a_wrong_shape_is_damage(store, folder, field):
    store.create("ci")
    change_row(folder, **field)
    for attempt in (store.list, TokenStore(folder).ensure_first_token, lambda: store.verify("x")):
        with pytest.raises(StartupError, match="is damaged"):
            attempt()


def test_a_damaged_store_stops_the_start_and_is_left_as_it_is(store, folder):
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(b"{" * 5000)
    for attempt in (store.list, store.ensure_first_token, lambda: store.create("x"), lambda: store.verify("x")):
        with pytest.raises(StartupError, match="not a database"):
            attempt()
    assert (folder / FILE_NAME).read_bytes() == b"{" * 5000


def test_a_scope_of_a_newer_version_allows_nothing_here(store, folder):
    store.create("ci", [Scope.EXECUTE])
    change_row(folder, scopes=["execute", "everything"])
    assert TokenStore(folder).list()[0].scopes == {Scope.EXECUTE}
    change_row(folder, scopes=["everything"])
    assert TokenStore(folder).list()[0].scopes == frozenset()


def test_a_full_disk_leaves_the_old_tokens_whole(store, folder):
    secret, _ = store.create("ci")
    database = store._table._database
    (pages,) = database._execute("PRAGMA page_count").fetchone()
    database._execute(f"PRAGMA max_page_count = {pages}").fetchone()
    made = ["ci"]
    with pytest.raises(StartupError, match=r"full\). Make room there, or set CODEX_STATE_DIR"):
        while len(made) < 1000:
            made.append(store.create(f"t{len(made)}")[1].name)
    assert store.verify(secret)
    assert [token.name for token in TokenStore(folder).list()] == made


def as_it_was(folder, *tokens):
    """Write tokens as versions before the store kept them."""
    folder.mkdir(exist_ok=True)
    (folder / "tokens.json").write_text(json.dumps({"version": 1, "tokens": [_to_row(token) for token in tokens]}))
    (folder / "tokens.json").chmod(0o644)
    (folder / "tokens.lock").touch()


def test_tokens_of_the_old_file_move_into_the_store_at_the_start(store, folder):
    first, second = replace(with_hash(hash_token("a")), id="tok_a"), replace(with_hash(hash_token("b")), id="tok_b")
    as_it_was(folder, first, second)
    assert store.ensure_first_token() is None
    assert store.verify("a") == first
    assert store.list() == [first, second]
    assert TokenStore(folder).list() == [first, second]
    assert not (folder / "tokens.json").exists()
    assert not (folder / "tokens.lock").exists()
    assert stat.S_IMODE((folder / "tokens.json.migrated").stat().st_mode) == 0o600


def test_a_change_moves_the_old_file_first_and_a_look_moves_nothing(store, folder):
    as_it_was(folder, with_hash(hash_token("a")))
    assert store.verify("a")
    assert sorted(file.name for file in folder.iterdir()) == ["tokens.json", "tokens.lock"]
    with pytest.raises(StartupError, match="another name"):
        store.create("ci")
    assert (folder / "tokens.json").exists()
    assert store.revoke("ci").id == "tok_1"
    assert store.verify("a") is None
    assert not (folder / "tokens.json").exists()


def test_a_token_stays_revoked_though_the_old_file_comes_back(store, folder):
    as_it_was(folder, with_hash(hash_token("a")))
    store.revoke("ci")
    as_it_was(folder, with_hash(hash_token("a")))
    for _ in range(2):
        assert store.verify("a") is None
        assert TokenStore(folder).verify("a") is None
        store.ensure_first_token()


def test_an_old_file_that_cannot_be_renamed_is_told_and_its_tokens_are_safe(store, folder, monkeypatch):
    as_it_was(folder, with_hash(hash_token("a")))

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(StartupError, match="its tokens are in the store now: move it away"):
        store.ensure_first_token()
    assert store.verify("a")
    assert len(store.list()) == 1


def test_tokens_of_a_folder_that_cannot_be_written_are_read_and_changes_there_are_seen(folder, monkeypatch):
    secret, _ = TokenStore(folder).create("ci")
    gc.collect()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    reader = TokenStore(folder)
    assert reader.verify(secret)
    assert [file.name for file in folder.iterdir()] == [FILE_NAME]
    with pytest.raises(StartupError, match="right to read and write"):
        reader.create("second")
    monkeypatch.undo()
    TokenStore(folder).revoke("ci")  # by who may
    gc.collect()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert reader.verify(secret) is None


def test_changes_that_cannot_be_applied_are_not_overlooked(store, folder, monkeypatch):
    store.create("ci")
    assert (folder / f"{FILE_NAME}-wal").stat().st_size
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(StartupError, match="cannot be applied"):
        TokenStore(folder).list()


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


def test_an_old_file_that_may_not_be_read_names_the_cause_once_and_the_remedy(folder, monkeypatch):
    as_it_was(folder, with_hash(hash_token("a")))

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
