"""A workspace in a temporary folder, on which operations are tried."""

import os

import pytest

from codex_server.sandboxes.files.workspace import Workspace
from codex_server.sandboxes.guest import kernel


@pytest.fixture
def folder(tmp_path):
    """The workspace's folder; what is beside it is outside."""
    (tmp_path / "work").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    return tmp_path / "work"


@pytest.fixture
def workspace(folder):
    top = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    yield Workspace(top, kernel)
    os.close(top)
