"""The workspaces that ``codex-server workspace add`` has named: a file of the state folder, read at each start."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from codex_server.errors import SettingsInvalid
from codex_server.files import read_file
from codex_server.settings.settings import Settings
from codex_server.settings.workspaces import WorkspaceFolder, check_apart, check_name, parse_folder

FILE_NAME = "workspaces.json"


class WorkspaceFile:
    """The file in ``state_dir``. Every method raises ``SettingsInvalid`` where it cannot be read, or written."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME

    def read(self) -> dict[str, WorkspaceFolder]:
        """What is in it, by name; empty where there is none."""
        try:
            written = read_file(self._path)
            content: object = json.loads(written) if written else {}
            if not isinstance(content, dict):
                raise ValueError("it is no object of names and folders")
            return {check_name(name): parse_folder(str(folder)) for name, folder in content.items()}
        except NotADirectoryError:
            return {}  # The state folder is no folder: it holds nothing, and whoever writes there reports it.
        except OSError as error:
            raise self._trouble("read", str(error.strerror)) from error
        except ValueError as error:
            raise self._trouble("read", str(error)) from error

    def add(self, name: str, folder: WorkspaceFolder) -> None:
        """Name a folder; another of that name is replaced."""
        self._write({**self.read(), name: folder})

    def remove(self, name: str) -> bool:
        """Whether it was there. The folder itself stays as it is."""
        left = self.read()
        if left.pop(name, None) is None:
            return False
        self._write(left)
        return True

    def _write(self, folders: Mapping[str, WorkspaceFolder]) -> None:
        """INVARIANT: a reader finds the old file or the new one."""
        new = self._path.with_name(f".{FILE_NAME}-{secrets.token_hex(8)}")
        content = json.dumps({name: str(folder) for name, folder in folders.items()}, indent=2) + "\n"
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
                file.write(content.encode())
            new.replace(self._path)
        except OSError as error:
            raise self._trouble("written", str(error.strerror)) from error

    def _trouble(self, done: str, why: str) -> SettingsInvalid:
        return SettingsInvalid(
            f"{self._path}, where workspaces are named, cannot be {done} ({why}): give this account the right to it, "
            "or mend or remove the file"
        )


def with_stored_workspaces(settings: Settings) -> Settings:
    """``settings`` with the workspaces of the state folder too; of two with one name that of the settings wins.

    Raises ``SettingsInvalid``.
    """
    stored = WorkspaceFile(settings.state_dir).read()
    if not stored:
        return settings
    try:
        check_apart(stored, settings.state_dir)
    except ValueError as error:
        raise SettingsInvalid(str(error)) from error
    together = {name: str(folder) for name, folder in stored.items()} | settings.workspaces
    return settings.model_copy(update={"workspaces": together})
