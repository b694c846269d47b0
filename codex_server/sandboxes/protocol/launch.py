"""What makes the guest side: how to launch a zygote, and what is the same for all its slots. Standard library only.

``LaunchPlan`` is for the launcher, ``SlotSetup`` for the zygote, ``ContainerLaunch`` for PID 1 of a container.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from .codec import Count, Range
from .stdio import StdioOrder

Id = Annotated[int, Range(0, 2**32 - 1)]
IdMap = tuple[Id, Id, Id]
"""The first id inside, the first on the host, how many."""


@dataclass(frozen=True, slots=True)
class NamedFolder:
    """A folder of the operator's that sessions may have as their workspace; the guest root has it at ``place``.

    ``guest``: the host id that its owner is to be seen as; None where ids are shown as they are.
    """

    place: str
    folder: str
    read_only: bool
    guest: Id | None


@dataclass(frozen=True, slots=True)
class NamespacePlan:
    """The zygote's own namespaces and root. ``entries`` are the root's (``rootfs.py``); ``uid`` is the zygote's in it.

    ``owner``: the host id that is to own the user namespace, where it is not the server's account.
    """

    uid_map: IdMap
    gid_map: IdMap
    map_tool: bool
    uid: Id
    entries: tuple[tuple[str, ...], ...]
    devices: tuple[str, ...]
    device_sets: Count
    owner: Id | None
    user_limits: Mapping[str, Count]
    workspaces: tuple[NamedFolder, ...] = ()

    @property
    def ids_are_own(self) -> bool:
        """Whether there is one id only: the server's own."""
        return self.uid_map[2] == 1


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """How to start a zygote, and what to remove when the server is gone; no ``namespaces`` at level ``confined``."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cgroups: tuple[str, ...]
    folders: tuple[str, ...]
    namespaces: NamespacePlan | None


@dataclass(frozen=True, slots=True)
class NamespaceSetup:
    """What a slot with namespaces of its own sees. ``masked``: a place to the file and the folder that cover it.

    ``shown`` are the folders of the host, ``programs`` those of them in which a program looks for its own file.
    """

    shown: tuple[str, ...]
    programs: tuple[str, ...]
    devices: tuple[str, ...]
    masked: Mapping[str, tuple[str, str]]
    shm_bytes: Count
    inodes: Count
    seccomp_without_overlay: str
    """Hexadecimal, like ``SlotSetup.seccomp``."""


@dataclass(frozen=True, slots=True)
class LandlockSetup:
    """What a guest of level ``confined`` sees of the host, beside its own folder."""

    readable: tuple[str, ...]
    writable_devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SlotSetup:
    """What is the same for every slot of one zygote, or for a container, which has neither of the last two.

    ``agent`` is the path of the runner's agent, None where nothing is prepared; ``preload`` are modules for it to
    import; ``seccomp`` is the guests' filter in hexadecimal, ``seccomp_of_sessions`` one more of those in a session;
    ``process_margin`` is added to each limit of processes.
    """

    cgroups: bool
    uid_per_slot: bool
    process_margin: Count
    workspace_bytes: Count
    pending_signals: Count
    import_path: str
    agent: str | None
    preload: tuple[str, ...]
    seccomp: str
    seccomp_of_sessions: str
    namespaces: NamespaceSetup | None
    landlock: LandlockSetup | None
    seccomp_of_workspaces: str = ""
    """The second filter of a session in a folder of the operator's, in hexadecimal. "": there are no such folders."""


@dataclass(frozen=True, slots=True)
class ZygoteReady:
    """The zygote is warm. ``overlay``: slots have inodes of their own; ``nodes``: and device nodes."""

    overlay: bool
    nodes: bool


@dataclass(frozen=True, slots=True)
class ContainerWorkspace:
    """The operator's folder that a container is to find as its workspace, or it does not serve.

    ``identity``: its file system and inode (``guest/container_workspace.py``); ``owner``: the uid that it is to have,
    None where nothing is written to it.
    """

    identity: str
    owner: Id | None


@dataclass(frozen=True, slots=True)
class ContainerLaunch:
    """What PID 1 of a container serves by; ``agent`` is the command of the program that waits in it, if one does.

    ``session``: it serves the cells of a session, and not one execution; ``workspace``: in a folder of the operator's.
    """

    setup: SlotSetup
    agent: tuple[str, ...] | None
    env: Mapping[str, str]
    stdio: StdioOrder
    session: bool = False
    workspace: ContainerWorkspace | None = None


@dataclass(frozen=True, slots=True)
class ImageProbe:
    """Asks what is in an image: by name, a program and the arguments that make it print its version."""

    questions: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ProgramFound:
    """A program of an image: its path, and what it printed."""

    path: str
    answer: str


@dataclass(frozen=True, slots=True)
class ImageContents:
    """What is in an image: the programs (None: it has none), and each package's name and version."""

    programs: Mapping[str, ProgramFound | None]
    pip: tuple[tuple[str, str], ...]
    npm: tuple[tuple[str, str], ...]
