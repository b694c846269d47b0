import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codex_server.cli.config import MASK, explain_settings, show_value, unknown_variables
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


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CODEX_MIN_ISOLATOIN", "did you mean CODEX_MIN_ISOLATION?"),
        ("CODEX_TOKEN", "did you mean CODEX_API_TOKEN?"),
        ("CODEX_TIMEOUT", "did you mean CODEX_MAX_TIMEOUT or CODEX_DEFAULT_TIMEOUT?"),
        ("codex_memory", "did you mean CODEX_MAX_MEMORY or CODEX_SESSIONS_MEMORY?"),
        ("CODEX_NO_DATA", "did you mean CODEX_DATA_PACKAGES?"),
        ("CODEX_COLOUR", "`codex-server config` lists them"),
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_what_was_meant(name: str, hint: str):
    warnings = unknown_variables({name: "x", "CODEX_PORT": "1", "PATH": "/bin"})
    assert warnings == [f"the variable {name} has no effect: there is no such setting; {hint}"]


def test_variables_of_the_suite_and_of_other_programs_are_left_alone():
    assert unknown_variables({"CODEX_HOME": "/x", "CODEX_REQUIRE_LEVELS": "full", "CODEX_TEST_BASE": "y"}) == []


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
