"""The upper layers of a slot's overlays: on the file system of the folder that they lie over, where one is empty."""

import os

import pytest

from codex_server.sandboxes.embedded.layers import empty_folders, layer_entries
from codex_server.sandboxes.room.overlay import LAYERS

pytestmark = pytest.mark.unprivileged


def test_a_layer_is_bound_from_the_file_system_of_its_folder_and_else_made(tmp_path):
    here = os.stat(tmp_path).st_dev
    entries = [("bind", "/opt/node", str(tmp_path)), ("bind", "/proc", "/proc"), ("file", "/note", "x")]
    assert layer_entries(entries, {here: tmp_path / "empty"}) == [
        ("bind", f"{LAYERS}/opt/node", str(tmp_path / "empty")),
        ("folder", f"{LAYERS}/proc"),
    ]


def test_a_layer_that_replaces_a_file_is_the_rooms_own(tmp_path):
    entries = [("bind", "/usr", str(tmp_path)), ("link", f"{LAYERS}/usr/lib/own.so", "/opt/own.so")]
    assert layer_entries(entries, {os.stat(tmp_path).st_dev: tmp_path}) == [("folder", f"{LAYERS}/usr")]


def test_an_empty_folder_is_made_once_and_shown_to_every_account(tmp_path):
    made = empty_folders([tmp_path, tmp_path / "missing"])
    assert made == empty_folders([tmp_path]) == {os.stat(tmp_path).st_dev: tmp_path / "empty"}
    assert os.stat(tmp_path / "empty").st_mode & 0o777 == 0o755


def test_a_folder_that_somebody_filled_is_laid_over_nothing(tmp_path):
    (tmp_path / "empty" / "bin").mkdir(parents=True)
    assert empty_folders([tmp_path]) == {}
