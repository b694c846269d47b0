"""The operator's folders as the embedded backend has them: where the guest root has each, and as whom it is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from codex_server.sandboxes.embedded.guestids import GuestIds
from codex_server.sandboxes.guest.named_folders import PLACES
from codex_server.sandboxes.named_workspaces import refused
from codex_server.sandboxes.protocol.launch import NamedFolder
from codex_server.settings import Settings


@dataclass(frozen=True, slots=True)
class WorkspacePlace:
    """Where the guest root has a folder, and the id that its sessions have."""

    folder: str
    uid: int


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


NO_WORKSPACES = Workspaces()
