"""What slots leave on the host is removed, whatever state it is in, and nothing beside it."""

import os
from pathlib import Path

import pytest

from codex_server.sandboxes.guest import removal
from codex_server.sandboxes.guest.removal import remove_cgroups, remove_tree

pytestmark = pytest.mark.unprivileged


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Two folders with empty ones in them, as cgroups are."""
    for name in ("memory/slot-1", "memory/slot-2", "pids/slot-1"):
        (tmp_path / name).mkdir(parents=True)
    return [str(tmp_path / name) for name in ("memory", "pids")]


def test_cgroups_are_removed_with_those_below_them(folders: list[str]) -> None:
    remove_cgroups(folders)
    assert not any(map(os.path.exists, folders))


def test_cgroups_that_are_gone_already_are_no_error(folders: list[str]) -> None:
    remove_cgroups([*folders, *folders, "/nonexistent/cgroup"])
    assert not any(map(os.path.exists, folders))


def test_a_cgroup_in_which_a_process_just_died_is_tried_again(
    folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = Path(folders[0], "slot-1", "process")
    dying.touch()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            dying.unlink()

    monkeypatch.setattr(removal.time, "sleep", sleep)
    remove_cgroups(folders)
    assert len(pauses) == 3
    assert not any(map(os.path.exists, folders))


def test_one_that_stays_in_use_is_left_and_the_others_go(folders: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path(folders[0], "slot-1", "process").touch()
    monkeypatch.setattr(removal.time, "sleep", lambda seconds: None)
    remove_cgroups(folders)
    assert os.listdir(folders[0]) == ["slot-1"]
    assert not os.path.exists(folders[1])


def test_a_link_in_a_guest_s_folder_is_removed_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest" / "folder").symlink_to(tmp_path / "kept")
    (tmp_path / "guest" / "file").symlink_to(tmp_path / "kept" / "file")
    remove_tree(str(tmp_path / "guest"))
    assert os.listdir(tmp_path) == ["kept"]
    assert (tmp_path / "kept" / "file").read_text() == "kept"


def test_a_guest_s_folder_that_is_gone_already_is_no_error(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "gone"))


@pytest.mark.parametrize("to", ["folder", "nowhere"])
def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path, to: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    (tmp_path / "link").symlink_to(tmp_path / to)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        remove_tree(str(tmp_path / "link"))
    assert (tmp_path / "folder" / "kept").exists()
