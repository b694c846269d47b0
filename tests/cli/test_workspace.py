import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from codex_server.cli.main import app
from codex_server.errors import SettingsInvalid
from codex_server.settings import load_settings
from codex_server.settings.workspace_file import WorkspaceFile, with_stored_workspaces


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["workspace", *arguments])


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def test_a_folder_that_was_added_is_a_workspace_of_the_next_start(notes: Path) -> None:
    assert run("add", "notes", str(notes)).exit_code == 0
    assert run("add", "data", str(notes), "--read-only").exit_code == 0
    settings = with_stored_workspaces(load_settings())
    assert settings.workspaces == {"notes": str(notes), "data": f"{notes}:ro"}
    assert [each.read_only for each in settings.workspace_folders.values()] == [False, True]


def test_the_list_has_those_of_the_settings_too(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("add", "notes", str(notes))
    monkeypatch.setenv("CODEX_WORKSPACES", "data=/srv/data:ro")
    found = json.loads(run("list", "--json").stdout)["workspaces"]
    assert found == [
        {"name": "data", "folder": "/srv/data", "mode": "read-only"},
        {"name": "notes", "folder": str(notes), "mode": "read-write"},
    ]
    assert "read-only" in run("list").stdout


def test_of_two_with_one_name_that_of_the_settings_wins(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("add", "notes", str(notes))
    monkeypatch.setenv("CODEX_WORKSPACES", "notes=/srv/other")
    assert with_stored_workspaces(load_settings()).workspaces == {"notes": "/srv/other"}


def test_a_name_that_was_removed_is_gone_and_the_folder_stays(notes: Path) -> None:
    run("add", "notes", str(notes))
    assert run("remove", "notes").exit_code == 0
    assert "no workspaces" in run("list").stdout
    assert notes.is_dir()
    assert run("remove", "notes").exit_code == 2


@pytest.mark.parametrize("name", ["", "Notes", "../up", "a b", "-x", "n" * 65, "a=b", "a,b"])
def test_a_name_that_cannot_stand_in_an_address_is_refused(notes: Path, name: str) -> None:
    assert run("add", "--", name, str(notes)).exit_code == 2
    assert WorkspaceFile(load_settings().state_dir).read() == {}


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "missing"):
        assert "make it first" in run("add", "notes", str(tmp_path / path)).stderr


def test_a_folder_with_the_tokens_in_it_is_refused(notes: Path) -> None:
    state = load_settings().state_dir
    (state / "below").mkdir(parents=True)
    (notes / "way").symlink_to(state)
    for folder in (state, state.parent, state / "below", notes / "way"):
        result = run("add", "notes", str(folder))
        assert (result.exit_code, "tokens" in result.stderr) == (2, True)


@pytest.mark.parametrize("content", ["{", "[]", '{"notes": "relative"}', '{"Bad Name": "/srv"}'])
def test_a_damaged_file_is_named_and_left_as_it_is(content: str) -> None:
    path = load_settings().state_dir / "workspaces.json"
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsInvalid, match=r"workspaces\.json"):
        with_stored_workspaces(load_settings())
    assert path.read_text(encoding="utf-8") == content
