import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from codex_server.cli.main import app
from codex_server.errors import StartupError


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["openapi", *arguments], catch_exceptions=False)


def test_yaml_and_json_say_the_same():
    assert json.loads(invoke("--json").output) == yaml.safe_load(invoke().output)


def test_the_document_does_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch):
    plain = invoke().output
    monkeypatch.setenv("CODEX_MAX_TIMEOUT", "7000")
    monkeypatch.setenv("CODEX_PUBLIC_URL", "https://elsewhere.example")
    assert invoke().output == plain


def test_check_accepts_what_output_wrote_and_shows_the_lines_that_differ(tmp_path: Path):
    file = tmp_path / "openapi.yaml"
    invoke("--output", str(file))
    assert invoke("--check", str(file)).exit_code == 0
    file.write_text(file.read_text().replace("executeCode", "runCode"))
    with pytest.raises(StartupError, match=r"make openapi[\s\S]*-.*runCode[\s\S]*\+.*executeCode"):
        invoke("--check", str(file))


def test_check_refuses_a_missing_file(tmp_path: Path):
    with pytest.raises(StartupError, match=r"absent.yaml cannot be read \(No such file or directory\); .* --output"):
        invoke("--check", str(tmp_path / "absent.yaml"))


def test_a_file_that_cannot_be_written_is_named_with_the_cause(tmp_path: Path):
    with pytest.raises(StartupError, match=r"x cannot be written \(No such file or directory\); name another file"):
        invoke("--output", str(tmp_path / "absent" / "x"))
