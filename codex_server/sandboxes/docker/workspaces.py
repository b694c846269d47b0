"""The operator's folders as containers have them: what is mounted, as whom, and what init is to find."""

import os

from codex_server.errors import SandboxUnavailable, StartupError
from codex_server.sandboxes.docker.container import WorkspaceMount
from codex_server.sandboxes.named_workspaces import PinnedFolder, refused
from codex_server.sandboxes.protocol.launch import ContainerWorkspace

_REMEDY = "give it to an account and a group (`chown`), or name it read-only (`:ro`)"


def expected_in(pinned: PinnedFolder) -> ContainerWorkspace:
    """What a container is to find. Raises ``SandboxUnavailable`` where the folder's path leads elsewhere by now."""
    owner = None if pinned.named.read_only else os.fstat(pinned.descriptor).st_uid
    return ContainerWorkspace(pinned.identity, owner)


def mount_of(pinned: PinnedFolder, processes: int) -> WorkspaceMount:
    """How a session with ``processes`` has it. Raises ``SandboxUnavailable`` where it would have root's id."""
    status, named = os.fstat(pinned.descriptor), pinned.named
    owner = status.st_uid, status.st_gid
    if 0 not in owner:
        return WorkspaceMount(str(named.folder), named.read_only, owner, processes)
    # INVARIANT: nothing in a container has an id of root's.
    if not named.read_only:
        whose = "root owns it" if owner[0] == 0 else "its group is root's"
        raise SandboxUnavailable(f"the workspace {pinned.name!r} cannot be written: {whose}; {_REMEDY}")
    return WorkspaceMount(str(named.folder), named.read_only, None, processes)


def refusal_of(pinned: PinnedFolder, why: str) -> StartupError:
    """What is raised at the start for one that sessions could not have."""
    return refused(
        f"{pinned.name} ({pinned.named.folder}): {why}",
        "Use an engine of this machine that maps no ids, or the embedded backend (CODEX_BACKEND=embedded)",
    )
