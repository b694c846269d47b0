"""A folder of the operator's is the one that the server has opened, wherever its path leads by now."""

import os
from pathlib import Path

import pytest

from codex_server.sandboxes.guest.named_folders import identity, open_pinned
from codex_server.sandboxes.guest.step import StepFailed
from codex_server.sandboxes.protocol.slot import WorkspacePin

pytestmark = pytest.mark.unprivileged


def test_a_folder_whose_path_leads_elsewhere_is_not_opened(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    pin = WorkspacePin(identity(folder.stat()), read_only=False)
    os.close(open_pinned(str(folder), pin))
    folder.rename(tmp_path / "kept")
    folder.symlink_to(tmp_path)
    with pytest.raises(StepFailed, match="was replaced"):
        open_pinned(str(folder), pin)
    folder.unlink()
    with pytest.raises(StepFailed, match="No such file"):
        open_pinned(str(folder), pin)
