"""The operator's folders as the embedded backend has them: where the guest root has each, and as whom it is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codex_server.sandboxes.embedded.guestids import GuestIds
from codex_server.sandboxes.guest.named_folders import PLACES
from codex_server.sandboxes.named_workspaces import PinnedFolder, refused
from codex_server.sandboxes.protocol.launch import NamedFolder
from codex_server.sandboxes.protocol.slot import WorkspacePin
from codex_server.settings import Settings


@dataclass(frozen=True, slots=True)
class WorkspacePlace:
    """Where the guest root has a folder, and the id that its sessions have.

    ``pinned``: at level ``confined``, where it is the host's own.
    """

    folder: str
    uid: int
    pinned: PinnedFolder | None = None

    @property
    def pin(self) -> WorkspacePin | None:
        """What its path is to lead to. Raises ``SandboxUnavailable`` where that is another folder by now."""
        return WorkspacePin(self.pinned.identity, self.pinned.named.read_only) if self.pinned else None


@dataclass(frozen=True, slots=True)
class Workspaces:
    """Those of one level, by name; ``folders`` are the same for the launcher."""

    places: Mapping[str, WorkspacePlace] = field(default_factory=dict)
    folders: tuple[NamedFolder, ...] = ()

    @classmethod
    def of(cls, settings: Settings, ids: GuestIds, slots: int, *, mapped: bool) -> "Workspaces":
        """``mapped``: the launcher is root of the host, and may mount with mapped ids.

        Raises ``StartupError`` where what a session writes could not be its folder's owner's.
        """
        if settings.workspaces and ids.per_slot and not mapped:
            raise refused(
                "sandboxes have ids of their own, and this account may not give them its folders",
                "Run the server as root of the host, or without the account's range in /etc/subuid",
            )
        places, folders = {}, []
        for number, (name, named) in enumerate(settings.workspace_folders.items()):
            place = WorkspacePlace(f"{PLACES}/{number}", ids.of_workspace(number, slots))
            guest = ids.uid_map[1] + place.uid if mapped else None
            places[name] = place
            folders.append(NamedFolder(place.folder, str(named.folder), named.read_only, guest))
        return cls(places, tuple(folders))

    @classmethod
    def for_confined(cls, folders: Mapping[str, PinnedFolder], ids: GuestIds, home: Path) -> "Workspaces":
        """``home`` holds the sandboxes' own folders. Raises ``StartupError`` as ``of`` does."""
        if folders and ids.per_slot:
            raise refused(
                "this host allows isolation level confined alone, where sandboxes of a server that is root have ids of "
                "their own, and no mount maps them to the folders' owners",
                "Run the server as the folders' owner, or where it reaches level namespaces (`codex-server doctor` "
                "shows what is missing)",
            )
        for pinned in folders.values():
            # INVARIANT: no guest reaches the folders of other sandboxes.
            if home.resolve().is_relative_to(pinned.named.folder.resolve()):
                raise refused(f"{pinned.named.folder} holds the sandboxes' own folders ({home})", "Name another folder")
        own = ids.uid_map[1]
        return cls({name: WorkspacePlace(str(each.named.folder), own, each) for name, each in folders.items()})


NO_WORKSPACES = Workspaces()
