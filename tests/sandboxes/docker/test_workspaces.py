"""The operator's folders in containers: opened at the start, compared in the container, refused where they differ."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from codex_server.errors import SandboxUnavailable, StartupError
from codex_server.sandboxes.docker.workspaces import expected_in, mount_of
from codex_server.sandboxes.guest import container_workspace
from codex_server.sandboxes.guest.step import StepFailed
from codex_server.sandboxes.named_workspaces import PinnedFolder, PinnedFolders
from codex_server.settings import Settings

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")


@pytest.fixture
def workspaces(tmp_path: Path) -> Iterator[PinnedFolders]:
    for name in ("notes", "data"):
        (tmp_path / name).mkdir()
    named = f"notes={tmp_path}/notes,data={tmp_path}/data:ro"
    opened = PinnedFolders(Settings(state_dir=tmp_path / "state", workspaces=named))  # type: ignore[arg-type]
    opened.open()
    yield opened
    opened.close()


def give_to(folder: PinnedFolder, uid: int, gid: int) -> None:
    os.chown(folder.named.folder, uid, gid)


def test_a_folder_that_cannot_be_opened_is_named_at_the_start(tmp_path: Path) -> None:
    for path, why in (("missing", "No such file"), ("file", "Not a directory")):
        (tmp_path / "file").touch()
        named = PinnedFolders(Settings(state_dir=tmp_path / "state", workspaces=f"a={tmp_path / path}"))  # type: ignore[arg-type]
        with pytest.raises(StartupError, match=f"{tmp_path / path}: {why}"):
            named.open()


def test_a_folder_whose_path_leads_elsewhere_is_refused(workspaces: PinnedFolders) -> None:
    notes = workspaces.by_name["notes"]
    assert expected_in(notes).identity == container_workspace.identity(notes.named.folder.stat())
    notes.named.folder.rmdir()
    with pytest.raises(SandboxUnavailable, match="'notes' was moved"):
        expected_in(notes)
    notes.named.folder.mkdir()
    with pytest.raises(SandboxUnavailable, match="'notes' was moved"):
        expected_in(notes)


@as_root
@pytest.mark.parametrize(("ids", "why"), [((0, 0), "root owns it"), ((1234, 0), "its group is root's")])
def test_roots_folder_is_only_read(workspaces: PinnedFolders, ids: tuple[int, int], why: str) -> None:
    for folder in workspaces.by_name.values():
        give_to(folder, *ids)
    with pytest.raises(SandboxUnavailable, match=why):
        mount_of(workspaces.by_name["notes"], 10)
    assert mount_of(workspaces.by_name["data"], 10).owner is None


@as_root
def test_a_session_has_the_ids_of_the_folders_owner(workspaces: PinnedFolders) -> None:
    notes = workspaces.by_name["notes"]
    give_to(notes, 1234, 1235)
    assert mount_of(notes, 10).owner == (1234, 1235)
    assert expected_in(notes).owner == 1234
    assert expected_in(workspaces.by_name["data"]).owner is None


def test_a_container_serves_no_other_folder(workspaces: PinnedFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    notes, data = workspaces.by_name["notes"], workspaces.by_name["data"]
    monkeypatch.setattr(container_workspace, "WORKSPACE", str(notes.named.folder))
    container_workspace.check(expected_in(notes))
    stranger = replace(expected_in(notes), owner=os.geteuid() + 1)
    others = (
        (expected_in(data), "another folder"),
        (stranger, "it maps ids"),
        (replace(stranger, owner=None), "read-only"),
    )
    for expected, why in others:
        with pytest.raises(StepFailed, match=why):
            container_workspace.check(expected)


def test_a_folder_with_something_mounted_inside_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_workspace, "WORKSPACE", "/dev")
    here = container_workspace.ContainerWorkspace(container_workspace.identity(Path("/dev").stat()), None)
    with pytest.raises(StepFailed, match="mounted inside the folder, at /dev/"):
        container_workspace.check(here)
