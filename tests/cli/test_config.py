import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codex_server.cli.config import MASK, explain_settings, misspelt_variables, show_value
from codex_server.cli.main import app
from codex_server.settings import Settings, load_settings


def test_every_setting_is_listed_once_with_where_it_comes_from(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CODEX_DATA_PACKAGES")  # of the suite
    monkeypatch.setenv("CODEX_PORT", "1234")
    Path("codex.toml").write_text('log_level = "debug"\nport = 1\n', encoding="utf-8")
    shown = json.loads(CliRunner().invoke(app, ["config", "--json", "--set", "host=::1"]).output)
    assert list(shown) == list(Settings.model_fields)
    sources = {name: (row["value"], row["source"]) for name, row in shown.items() if row["source"] != "default"}
    assert sources == {"host": ("::1", "flag"), "port": (1234, "CODEX_PORT"), "log_level": ("debug", "codex.toml")}


@pytest.mark.parametrize("arguments", [["config"], ["config", "--json"]])
def test_a_secret_is_masked_in_every_form(monkeypatch: pytest.MonkeyPatch, arguments: list[str]):
    monkeypatch.setenv("CODEX_API_TOKEN", "a-very-secret-token")
    output = CliRunner().invoke(app, arguments).output
    assert "a-very-secret-token" not in output
    assert MASK in output


def test_a_secret_that_is_not_set_does_not_look_like_one():
    rows = explain_settings(load_settings(), flags=(), environ={}, file_keys=())
    assert next(row for row in rows if row.name == "api_token").shown == "(none)"


def test_a_variable_in_small_letters_counts_as_it_does_for_the_settings():
    rows = explain_settings(load_settings(), flags=(), environ={"codex_port": "1"}, file_keys=())
    assert next(row for row in rows if row.name == "port").source == "CODEX_PORT"


def test_a_misspelt_variable_is_named_and_others_are_left_alone():
    warnings = misspelt_variables(
        {"CODEX_MIN_ISOLATOIN": "full", "CODEX_HOME": "/x", "CODEX_PORT": "1", "PATH": "/bin"}
    )
    assert warnings == ["the variable CODEX_MIN_ISOLATOIN has no effect; did you mean CODEX_MIN_ISOLATION?"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "(none)"),
        (True, "true"),
        ({"python": 4, "javascript": 2}, "python=4,javascript=2"),
        (10.0, "10"),
        (7, "7"),
    ],
)
def test_values_look_as_they_would_be_written_in_the_environment(value: object, shown: str):
    assert show_value(value) == shown


def test_sizes_are_shown_with_a_unit():
    assert "512MiB" in CliRunner().invoke(app, ["config"]).output
