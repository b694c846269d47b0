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


def test_the_document_for_chatgpt_names_the_public_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODEX_PUBLIC_URL", "https://code.example.org")
    answer = invoke("--actions")
    assert json.loads(answer.stdout)["servers"] == [{"url": "https://code.example.org"}]
    assert answer.stderr == ""


@pytest.mark.parametrize("address", ["", "http://code.example.org"])
def test_without_a_public_address_it_names_a_placeholder_and_says_so(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "codex.toml").write_text(f'public_url = "{address}"' if address else "")
    monkeypatch.delenv("CODEX_PUBLIC_URL", raising=False)
    answer = invoke("--actions")
    [server] = json.loads(answer.stdout)["servers"]
    assert server["url"].endswith(".example")
    assert "CODEX_PUBLIC_URL" in server["description"]
    assert "placeholder" in answer.stderr
    assert answer.exit_code == 0
