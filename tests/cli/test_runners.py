"""``codex-server runners`` with a runner of the test's own, and packages from a folder of wheels."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codex_server.cli.main import app
from codex_server.errors import InstallationFailed, UnknownLanguage
from tests.packages.test_pip import make_wheel

RUNNER = """
name: snake
title: Snake
aliases: [sn]
file: main.py
program: python
start: fork
packages: {installer: pip, manifest: requirements.txt}
"""


@pytest.fixture(autouse=True)
def a_runner_with_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runners" / "snake"
    folder.mkdir(parents=True)
    (folder / "runner.yaml").write_text(RUNNER)
    (folder / "requirements.txt").write_text("apple==1.2\n")
    make_wheel(tmp_path, "apple", "1.2")
    monkeypatch.setenv("CODEX_RUNNERS_DIR", str(tmp_path / "runners"))
    monkeypatch.setenv("CODEX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["runners", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def shown(name: str, *arguments: str) -> dict[str, object]:
    rows = json.loads(call("list", "--json", "--set", "data_packages=true", *arguments))["runners"]
    return next(row for row in rows if row["name"] == name)


@pytest.mark.tier("change")
def test_packages_are_installed_step_by_step_and_then_listed(tmp_path: Path):
    packages = shown("snake")["packages"]
    assert (packages["installed"], packages["size"], packages["contents"]) == (False, None, [])
    output = call("install", "sn").splitlines()
    assert output[0].startswith(
        f"Installing the packages of Snake into {tmp_path / 'state' / 'packages' / 'python-3.'}"
    )
    assert re.fullmatch(r"Packages of Snake: 1 installed, .* [KM]iB, \d+ s", output[-1])
    assert len(output) <= 4, "a line for the step, and one now and then on a slow machine"
    assert "\x1b" not in "".join(output)
    packages = shown("snake")["packages"]
    assert (packages["installed"], packages["contents"]) == (True, [{"name": "apple", "version": "1.2"}])
    assert packages["size"] > 0
    assert Path(packages["folder"]).is_dir()
    assert call("install", "snake") == "Snake: 1 packages are installed already\n"


def test_the_table_says_for_each_runner_what_its_programs_can_import():
    table, _, below = call("list", "--set", "data_packages=true").partition("\n\n")
    lines = {line.split()[0]: line for line in table.splitlines()}
    assert "not installed" in lines["snake"]
    assert lines["bash"].split()[1:] == ["none", "-", "-"]
    assert re.fullmatch(r"`\S*codex-server runners install` installs what is missing\.\n", below)
    assert all("switched off" in line for line in call("list").splitlines()[1:])


def test_the_place_is_a_setting(tmp_path: Path):
    assert shown("snake", "--set", f"packages_dir={tmp_path}")["packages"]["folder"].startswith(f"{tmp_path}/python-")


def test_a_runner_without_packages_is_told_and_an_unknown_one_refused():
    assert call("install", "bash") == "Bash: its runner names no packages\n"
    with pytest.raises(UnknownLanguage, match="runners list"):
        call("install", "cobol")


@pytest.mark.tier("change")
def test_a_failure_is_our_error_with_its_remedy(tmp_path: Path):
    (tmp_path / "runners" / "snake" / "requirements.txt").write_text("pear\n")
    with pytest.raises(
        InstallationFailed,
        match=r"No matching distribution [\s\S]*/install-python\.log; it ends:[\s\S]*ERROR: No",
    ):
        call("install", "snake")
    assert shown("snake")["packages"]["installed"] is False
