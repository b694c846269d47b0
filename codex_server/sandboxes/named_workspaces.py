"""The operator's folders as both backends have them: opened once, or the reason why sessions cannot have them."""

import os
from contextlib import ExitStack
from dataclasses import dataclass

from codex_server.errors import SandboxUnavailable, StartupError
from codex_server.sandboxes.guest.named_folders import identity
from codex_server.settings import Settings
from codex_server.settings.workspaces import WorkspaceFolder


@dataclass(frozen=True, slots=True)
class PinnedFolder:
    """A folder that stays open, so that no other has its inode meanwhile."""

    name: str
    named: WorkspaceFolder
    descriptor: int

    @property
    def identity(self) -> str:
        """What tells it from every other. Raises ``SandboxUnavailable`` where its path leads elsewhere by now."""
        opened = identity(os.fstat(self.descriptor))
        try:
            same = identity(self.named.folder.stat()) == opened
        except OSError:
            same = False
        if not same:
            raise SandboxUnavailable(
                f"the folder of the workspace {self.name!r} was moved, replaced or removed since the server was "
                "started; put it back, or have the operator restart the server"
            )
        return opened


class PinnedFolders:
    """Those of the settings, by name, from ``open`` to ``close``."""

    def __init__(self, settings: Settings) -> None:
        self._named = settings.workspace_folders
        self._closing = ExitStack()
        self.by_name: dict[str, PinnedFolder] = {}

    def open(self) -> None:
        """Raises ``StartupError`` for a folder that cannot be opened."""
        for name, named in self._named.items():
            try:
                descriptor = os.open(named.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise refused(f"{named.folder}: {error.strerror}", "Name a folder that can be used") from error
            self._closing.callback(os.close, descriptor)
            self.by_name[name] = PinnedFolder(name, named, descriptor)

    def close(self) -> None:
        """Let go of them; safe to call twice."""
        self.by_name.clear()
        self._closing.close()


def refused(why: str, remedy: str) -> StartupError:
    """What is raised at the start; ``remedy`` is what an operator can do instead of leaving the setting out."""
    return StartupError(
        f"named workspaces (CODEX_WORKSPACES) cannot be had here: {why}. {remedy}, or leave the setting out"
    )


def check_none(settings: Settings, why: str, remedy: str) -> None:
    """Raise ``StartupError`` where the settings name workspaces."""
    if settings.workspaces:
        raise refused(why, remedy)
