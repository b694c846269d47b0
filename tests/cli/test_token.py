import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from typer.testing import CliRunner, Result

from codex_server.access.tokens import Token, TokenStore
from codex_server.cli.main import app
from codex_server.cli.token import token_state
from codex_server.settings import load_settings


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["token", *arguments])


def store() -> TokenStore:
    return TokenStore(load_settings().state_dir)


def test_create_prints_the_token_alone_and_a_server_accepts_it():
    result = run("create", "chatgpt")
    assert re.fullmatch(r"codex_[A-Za-z0-9_-]{43}\n", result.stdout)
    verified = store().verify(result.stdout.strip())
    assert verified is not None
    assert verified.name == "chatgpt"


def test_create_takes_scopes_and_an_expiry():
    run("create", "meter", "--scope", "metrics", "--expires-in-days", "2")
    (token,) = store().list()
    assert token.scopes == {"metrics"}
    assert token.expires_at is not None
    assert (token.expires_at - token.created_at).total_seconds() == 2 * 86400


def test_an_unknown_scope_is_refused_with_those_that_there_are():
    result = run("create", "x", "--scope", "root")
    assert result.exit_code == 2
    assert "scopes are execute, metrics" in result.stderr


def test_create_warns_when_the_environment_names_the_only_token(monkeypatch):
    monkeypatch.setenv("CODEX_API_TOKEN", "x" * 16)
    assert "accepts that one alone" in run("create", "chatgpt").stderr


def test_list_shows_names_and_states_and_never_a_token_or_its_hash():
    secret = run("create", "chatgpt").stdout.strip()
    run("create", "old")
    run("revoke", "old")
    for arguments in (["list"], ["list", "--json"]):
        output = run(*arguments).output
        assert "chatgpt" in output
        assert "revoked" in output
        assert secret not in output
        assert store().list()[0].hash not in output
    assert [row["state"] for row in json.loads(run("list", "--json").stdout)["tokens"]] == ["valid", "revoked"]


def test_a_revoked_token_opens_nothing_any_more():
    secret = run("create", "chatgpt").stdout.strip()
    assert "Revoked chatgpt" in run("revoke", "chatgpt").stdout
    assert store().verify(secret) is None


def test_the_state_folder_can_be_named(tmp_path):
    run("create", "elsewhere", "--state-dir", str(tmp_path))
    assert store().list() == []
    assert [token.name for token in TokenStore(tmp_path).list()] == ["elsewhere"]


def test_a_folder_without_tokens_is_told_with_the_command_that_makes_one(tmp_path):
    output = run("list", "--state-dir", str(tmp_path)).stdout
    assert re.fullmatch(rf"no tokens in {tmp_path}; `\S*codex-server token create NAME` makes one\n", output)
    assert json.loads(run("list", "--json", "--state-dir", str(tmp_path)).stdout) == {"tokens": []}


def test_a_token_tells_the_time_of_its_end_on_its_last_day():
    now = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
    token = Token("tok_x", "x", frozenset(), "", now, now + timedelta(seconds=86))
    assert token_state(token, now) == "valid until 2026-11-21 18:01:26 UTC"
    assert token_state(replace(token, expires_at=now + timedelta(days=2)), now) == "valid until 2026-11-23"
