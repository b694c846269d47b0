"""Where a folder cannot be given to sessions with the right owner, the server does not start, and says why."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codex_server.errors import SandboxUnavailable, StartupError
from codex_server.languages import load_languages
from codex_server.sandboxes.base import IsolationLevel
from codex_server.sandboxes.embedded.backend import EmbeddedBackend
from codex_server.sandboxes.embedded.guestids import GuestIds
from codex_server.sandboxes.embedded.workspaces import Workspaces
from codex_server.sandboxes.guest.named_folders import identity
from codex_server.sandboxes.named_workspaces import PinnedFolder, PinnedFolders
from codex_server.sandboxes.protocol.slot import WorkspacePin
from codex_server.settings import Settings
from tests.host_snapshot import next_guest_ids

RANGE = GuestIds((0, 100_000, 65_536), (0, 100_000, 65_536), map_tool=True)
OWN = GuestIds((1000, 5000, 1), (1000, 5000, 1), map_tool=False)


def settings_with(tmp_path: Path, workspaces: str, **given: object) -> Settings:
    fixed = {"state_dir": tmp_path / "state", "guest_ids": next_guest_ids(), "pool_sizes": {"python": 0}}
    return Settings(workspaces=workspaces, **fixed, **given)  # type: ignore[arg-type]


@contextmanager
def opened(settings: Settings) -> Iterator[dict[str, PinnedFolder]]:
    """The settings' folders, which are made."""
    folders = PinnedFolders(settings)
    for each in settings.workspace_folders.values():
        each.folder.mkdir()
    folders.open()
    yield folders.by_name
    folders.close()


def refusal_of(settings: Settings, most: IsolationLevel = IsolationLevel.FULL) -> str:
    async def start() -> None:
        async with EmbeddedBackend(settings, load_languages(), most=most):
            pass

    with pytest.raises(StartupError) as refused:
        asyncio.run(start())
    return refused.value.detail


def test_each_workspace_has_an_id_beyond_those_of_the_slots(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, "a=/srv/a,b=/srv/b:ro")
    found = Workspaces.of(settings, RANGE, 30, mapped=True)
    assert {name: place.uid for name, place in found.places.items()} == {"a": 10_030, "b": 10_031}
    assert [(each.folder, each.read_only, each.guest) for each in found.folders] == [
        ("/srv/a", False, 110_030),
        ("/srv/b", True, 110_031),
    ]
    assert len({each.place for each in found.folders}) == 2
    assert not any("/srv" in each.place or each.place.endswith(("/a", "/b")) for each in found.folders)


def test_an_account_with_one_id_has_its_folders_as_they_are(tmp_path: Path) -> None:
    found = Workspaces.of(settings_with(tmp_path, "a=/srv/a"), OWN, 30, mapped=False)
    assert (found.places["a"].uid, found.folders[0].guest) == (1000, None)


def test_subordinate_ids_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="Run the server as root of the host"):
        Workspaces.of(settings_with(tmp_path, "a=/srv/a"), RANGE, 30, mapped=False)
    assert Workspaces.of(settings_with(tmp_path, ""), RANGE, 30, mapped=False).places == {}


def test_confined_sandboxes_with_ids_of_their_own_refuse_them(tmp_path: Path) -> None:
    with opened(settings_with(tmp_path, f"a={tmp_path}/a")) as folders:
        with pytest.raises(StartupError, match="no mount maps them"):
            Workspaces.for_confined(folders, RANGE, tmp_path / "home")
        assert Workspaces.for_confined({}, RANGE, tmp_path / "home").places == {}


def test_a_confined_session_has_the_servers_own_id_and_the_folder_of_the_start(tmp_path: Path) -> None:
    with opened(settings_with(tmp_path, f"a={tmp_path}/a:ro")) as folders:
        place = Workspaces.for_confined(folders, OWN, tmp_path / "home").places["a"]
        assert (place.uid, place.folder) == (5000, f"{tmp_path}/a")
        assert place.pin == WorkspacePin(identity((tmp_path / "a").stat()), read_only=True)
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").symlink_to("/")
        with pytest.raises(SandboxUnavailable, match="was moved, replaced or removed"):
            _ = place.pin


def test_a_folder_around_the_sandboxes_own_is_refused(tmp_path: Path) -> None:
    with (
        opened(settings_with(tmp_path, f"a={tmp_path}/a")) as folders,
        pytest.raises(StartupError, match="holds the sandboxes' own folders"),
    ):
        Workspaces.for_confined(folders, OWN, tmp_path / "a" / "home")


@pytest.mark.unprivileged
def test_a_folder_that_is_missing_or_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, why in (("missing", "No such file"), ("file", "Not a directory")):
        said = refusal_of(settings_with(tmp_path, f"a={tmp_path / name}"))
        assert f"{tmp_path / name}: {why}" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts with mapped ids")
def test_a_file_system_that_maps_no_ids_is_named(tmp_path: Path) -> None:
    assert "/proc/sys: its file system cannot be mounted with mapped ids" in refusal_of(
        settings_with(tmp_path, "a=/proc/sys")
    )
