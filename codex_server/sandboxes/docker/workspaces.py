"""The operator's folders as containers have them: opened once, so that a path that leads elsewhere later is noticed."""

import os
from contextlib import ExitStack
from dataclasses import dataclass

from codex_server.errors import SandboxUnavailable, StartupError
from codex_server.sandboxes.docker.container import WorkspaceMount
from codex_server.sandboxes.guest.container_workspace import identity
from codex_server.sandboxes.named_workspaces import refused
from codex_server.sandboxes.protocol.launch import ContainerWorkspace
from codex_server.settings import Settings
from codex_server.settings.workspaces import WorkspaceFolder

_AS_AN_OWNER = "give it to an account and a group (`chown`), name it read-only (`:ro`)"


@dataclass(frozen=True, slots=True)
class PinnedFolder:
    """A folder that stays open, so that no other has its inode meanwhile."""

    name: str
    named: WorkspaceFolder
    descriptor: int

    @property
    def expected(self) -> ContainerWorkspace:
        """What a container is to find. Raises ``SandboxUnavailable`` where the folder's path leads elsewhere by now."""
        opened = os.fstat(self.descriptor)
        try:
            same = identity(self.named.folder.stat()) == identity(opened)
        except OSError:
            same = False
        if not same:
            raise SandboxUnavailable(
                f"the folder of the workspace {self.name!r} was moved, replaced or removed since the server was "
                "started; put it back, or have the operator restart the server"
            )
        return ContainerWorkspace(identity(opened), None if self.named.read_only else opened.st_uid)

    def mount(self, processes: int) -> WorkspaceMount:
        """How a session with ``processes`` has it. Raises ``SandboxUnavailable`` where it would have root's id."""
        opened = os.fstat(self.descriptor)
        owner = opened.st_uid, opened.st_gid
        if 0 not in owner:
            return WorkspaceMount(str(self.named.folder), self.named.read_only, owner, processes)
        # INVARIANT: nothing in a container has an id of root's.
        if not self.named.read_only:
            whose = "root owns it" if owner[0] == 0 else "its group is root's"
            raise SandboxUnavailable(f"the workspace {self.name!r} cannot be written: {whose}; {_AS_AN_OWNER}")
        return WorkspaceMount(str(self.named.folder), self.named.read_only, None, processes)


class Workspaces:
    """Those of the settings, by name, from ``open`` to ``close``."""

    def __init__(self, settings: Settings) -> None:
        self._named = settings.workspace_folders
        self._closing = ExitStack()
        self.folders: dict[str, PinnedFolder] = {}

    def open(self) -> None:
        """Raises ``StartupError`` for a folder that cannot be opened."""
        for name, named in self._named.items():
            try:
                descriptor = os.open(named.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise refusal_of(name, named, f"{error.strerror}") from error
            self._closing.callback(os.close, descriptor)
            self.folders[name] = PinnedFolder(name, named, descriptor)

    def close(self) -> None:
        """Let go of them; safe to call twice."""
        self.folders.clear()
        self._closing.close()


def refusal_of(name: str, named: WorkspaceFolder, why: str) -> StartupError:
    """What is raised at the start for one that sessions could not have."""
    return refused(
        f"{name} ({named.folder}): {why}",
        "Use an engine of this machine that maps no ids, or the embedded backend (CODEX_BACKEND=embedded)",
    )
