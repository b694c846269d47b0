"""What the guest side works by at each level: how to launch the zygote, and how to arm a slot."""

import contextlib
import os
import secrets
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from codex_server.interpreters import Interpreter
from codex_server.languages import Language, Languages, Start
from codex_server.model import PIPES, Stdio
from codex_server.sandboxes.embedded import rootfs
from codex_server.sandboxes.embedded.cgroup import CgroupTree
from codex_server.sandboxes.embedded.commands import command_of
from codex_server.sandboxes.embedded.diagnose import closed_to_others
from codex_server.sandboxes.embedded.guestids import GuestIds
from codex_server.sandboxes.embedded.shares import Shares, shares_of
from codex_server.sandboxes.embedded.workspaces import NO_WORKSPACES, Workspaces
from codex_server.sandboxes.embedded.zygote_process import SANDBOXES_FOLDER, Zygote, boot_argv
from codex_server.sandboxes.environment import ABSENT, guest_environment, packages_environment
from codex_server.sandboxes.guest.overlay import LAYERS
from codex_server.sandboxes.protocol.launch import LandlockSetup, LaunchPlan, NamespacePlan, NamespaceSetup, SlotSetup
from codex_server.sandboxes.protocol.payload import stdio_order
from codex_server.sandboxes.protocol.slot import Role, SlotOrder
from codex_server.sandboxes.seccomp.compiler import compile_filter
from codex_server.sandboxes.seccomp.policy import (
    CONFINED,
    CONFINED_OWN_UID,
    NAMESPACES,
    NAMESPACES_SHARED_UID,
    NAMESPACES_WITHOUT_OVERLAY,
    NAMESPACES_WITHOUT_OVERLAY_SHARED_UID,
)
from codex_server.sandboxes.seccomp.rules import Policy
from codex_server.sandboxes.seccomp.sessions import SESSION
from codex_server.sandboxes.seccomp.workspaces import NAMED_WORKSPACE
from codex_server.settings import Settings

_INODES = 20_000
_ABSENT = str(SANDBOXES_FOLDER / ABSENT)
_SESSIONS_COUNTED = 20
"""As many as one caller may have open by default."""
_SPARE_PROCESSES = 64
"""What an account's own processes may grow by while the server runs, where RLIMIT_NPROC counts them too."""


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """One slot to arm: its order, and its own folder on the host, at level ``confined``."""

    order: SlotOrder
    folder: Path | None


@dataclass(frozen=True, slots=True)
class Kind:
    """What a slot is armed for: ``agent`` is the language whose agent is to be started in it, if one is."""

    agent: Language | None = None
    stdio: Stdio = PIPES
    role: Role = "execution"
    workspace: str | None = None
    """The name of the operator's folder that a session works in."""


@dataclass(frozen=True, slots=True)
class HostParts:
    """What this host gives: the interpreter, the guests' ids, cgroups if there are any, the number of slots."""

    python: Interpreter
    ids: GuestIds
    tree: CgroupTree | None
    slots: int
    owner: int | None = None
    """The host id that is charged with what guests use, where it is not the server's account."""

    @property
    def shares(self) -> Shares:
        """What each guest may have of what the kernel counts by user."""
        return shares_of(self.ids, self.slots, own_account=self.owner is None)


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans of one level on this host."""

    interpreter: Interpreter
    launch_plan: LaunchPlan
    setup: SlotSetup
    slot_uid: Callable[[int], int]
    languages: Languages
    home: Path | None = None
    workspaces: Workspaces = NO_WORKSPACES
    _environment: dict[str, str] = field(default_factory=dict)
    shortfall: tuple[str, ...] = ()
    """What programs have to do without at this level, and the remedy."""

    @classmethod
    def for_namespaces(cls, settings: Settings, languages: Languages, host: "HostParts") -> "Plans":
        """Levels ``full`` and ``namespaces``: a guest root of our own making."""
        python, ids, tree = host.python, host.ids, host.tree
        folders = [f"{rootfs.GUEST_CODE}/{ABSENT}", *rootfs.program_folders(languages)]
        environment = guest_environment(folders) | _environment_of_packages(settings, languages)
        workspaces = Workspaces.of(settings, ids, host.slots, mapped=host.owner is not None)
        entries = rootfs.root_entries(languages, SANDBOXES_FOLDER, host.slots + len(workspaces.places))
        shown = rootfs.shown_folders(entries)
        entries += [("folder", f"{LAYERS}{folder}") for folder in shown]
        entries.append(("file", rootfs.BOOT_ID, f"{uuid.uuid4()}\n"))
        entries = rootfs.with_private_libraries(entries, _private_libraries(python), f"/opt/{python.name}/lib")
        entries = rootfs.with_own_program(entries, rootfs.guest_path(python), python.path)
        launch_plan = LaunchPlan(
            argv=boot_argv(_warm_program(languages, python), str(Path(rootfs.GUEST_CODE).parent), "zygote"),
            env=environment | _environment_of_python(languages),
            cgroups=tuple(str(folder) for folder in tree.folders) if tree else (),
            folders=(),
            namespaces=replace(_namespace_plan(host, entries), workspaces=workspaces.folders),
        )
        setup = _setup(
            settings,
            host,
            NAMESPACES if ids.per_slot else NAMESPACES_SHARED_UID,
            import_path=str(Path(rootfs.GUEST_CODE).parent),
            agent=f"{rootfs.runner_folder(_python(languages))}/agent.py",
            namespaces=_namespace_setup(settings, ids, shown, rootfs.folders_of_agents(shown, languages)),
        )
        return cls(python, launch_plan, setup, ids.of_slot, languages, None, workspaces, environment)

    @classmethod
    def for_confined(
        cls,
        settings: Settings,
        languages: Languages,
        host: "HostParts",
        home: Path,
        workspaces: Workspaces = NO_WORKSPACES,
    ) -> "Plans":
        """Level ``confined``: the host's own root, seen through Landlock."""
        python, ids = host.python, host.ids
        languages, shortfall = _within_reach(languages, others=ids.per_slot)
        known = [language for language in languages if language.interpreter is not None]
        roots = [
            str(language.interpreter.root) for language in known if language.interpreter and language.interpreter.root
        ] + [str(language.packages.folder) for language in known if language.packages]
        environment = _environment_folder(languages, home)
        extra = _environment_of_packages(settings, languages, confined=True)
        launch_plan = LaunchPlan(
            argv=boot_argv(str(environment / "bin" / "python3"), str(SANDBOXES_FOLDER.parent), "zygote"),
            env=guest_environment([], temp=str(home)) | extra,
            cgroups=(),
            folders=(str(home),),
            namespaces=None,
        )
        own = [_ABSENT, str(SANDBOXES_FOLDER / "files")]
        readable = [*rootfs.READABLE, *roots, str(environment), *(str(lang.folder) for lang in known), *own]
        setup = _setup(
            settings,
            host,
            CONFINED_OWN_UID if ids.per_slot else CONFINED,
            import_path=str(SANDBOXES_FOLDER.parent),
            agent=str(_python(known).folder / "agent.py"),
            landlock=LandlockSetup(_present(readable), _present(rootfs.DEVICES)),
        )
        first = ids.uid_map[1]
        return cls(
            python,
            launch_plan,
            setup,
            lambda number: first + (number if ids.per_slot else 0),
            languages,
            home,
            workspaces,
            extra,
            shortfall,
        )

    @property
    def preload(self) -> tuple[str, ...]:
        """The modules that a second zygote is to import beforehand; none where the packages are not there."""
        return next((lang.preload for lang in self.languages if lang.start is Start.FORK and lang.packages), ())

    async def launch(self, preload: tuple[str, ...] = ()) -> Zygote:
        """Start a zygote that has imported ``preload``. Raises ``LaunchFailed``."""
        return await Zygote.launch(str(self.interpreter.path), self.launch_plan, replace(self.setup, preload=preload))

    def slot(self, number: int, kind: Kind) -> SlotPlan:
        """The plan of slot ``number``."""
        place = self.workspaces.places[kind.workspace] if kind.workspace else None
        pin = place.pin if place else None
        folder = None
        environment = self._environment
        if self.home:
            folder = self.home / f"{number}-{secrets.token_hex(8)}"
            folder.mkdir(mode=0o700)
            _link_node_modules(self.languages, folder)
            environment = _confined_environment(self.languages, self.home, folder) | self._environment
        order = SlotOrder(
            uid=place.uid if place else self.slot_uid(number),
            agent=command_of(kind.agent, confined=self.home is not None) if kind.agent else None,
            env=environment,
            folder=str(folder) if folder else None,
            number=number,
            stdio=stdio_order(kind.stdio),
            role=kind.role,
            workspace=place.folder if place else None,
            pin=pin,
        )
        return SlotPlan(order, folder)


def _confined_environment(languages: Languages, home: Path, folder: Path) -> dict[str, str]:
    environment = guest_environment([], temp=str(folder / "tmp"))
    known = [language for language in languages if language.interpreter is not None]
    folders = [_ABSENT, str(_environment_folder(languages, home) / "bin")]
    folders += [str(lang.interpreter.path.parent) for lang in known if lang.interpreter and lang.interpreter.root]
    return environment | {"PATH": ":".join([*dict.fromkeys(folders), environment["PATH"]])}


def _present(paths: Iterable[str]) -> tuple[str, ...]:
    """Those that this host has."""
    return tuple(path for path in paths if Path(path).exists())


def _link_node_modules(languages: Languages, folder: Path) -> None:
    """Lay the JavaScript packages beside the workspace, where Node.js looks after the workspace's own."""
    for language in languages:
        if language.packages is not None and language.packages.installer == "npm":
            (folder / "node_modules").symlink_to(language.packages.folder / "node_modules")
            return


def _within_reach(languages: Languages, *, others: bool) -> tuple[Languages, tuple[str, ...]]:
    """The languages without those packages that a guest could not read, and what to do about it.

    ``others``: guests have ids of their own, and see the host's folders as another account does.
    """
    shortfall: dict[str, None] = {}
    reached = []
    for language in languages:
        closed = closed_to_others([language.packages.folder]) if others and language.packages else None
        if closed:
            shortfall[_out_of_reach(language, closed)] = None
        reached.append(replace(language, packages=None) if closed else language)
    return Languages(reached), tuple(shortfall)


def _out_of_reach(language: Language, closed: Path) -> str:
    return (
        f"the packages of {language.title} are left out: {closed} can be entered by its owner alone, and here each "
        "guest has a uid of its own and sees the host's folders. Install them where every account may read: set "
        "CODEX_PACKAGES_DIR, for example to /var/lib/codex-packages"
    )


def empty_environment(home: Path) -> Path:
    """Where the environment without packages lies at level ``confined``."""
    return home / "python"


def _has_environment(language: Language) -> bool:
    """Whether the language's packages are a virtual environment, with an interpreter of its own."""
    return language.packages is not None and language.packages.installer == "pip"


def _python(languages: Iterable[Language]) -> Language:
    """The language whose agent a zygote loads."""
    return next(language for language in languages if language.name == "python")


def _warm_program(languages: Languages, python: Interpreter) -> str:
    """The guest's path of the interpreter that a zygote is: the one in the environment of Python programs."""
    warm = next((language for language in languages if language.start is Start.FORK), None)
    return rootfs.guest_program(warm) if warm and warm.interpreter else rootfs.guest_path(python)


def _environment_folder(languages: Languages, home: Path) -> Path:
    """This environment where a guest sees the host's own folders: with the data packages, where they are."""
    folders = (lang.packages.folder for lang in languages if _has_environment(lang) and lang.packages)
    return next(folders, empty_environment(home))


def _environment_of_packages(
    settings: Settings, languages: Iterable[Language], *, confined: bool = False
) -> dict[str, str]:
    """Variables that the Python packages need, where they are: as few as possible."""
    if not any(map(_has_environment, languages)):
        return {}
    found = packages_environment(settings)
    if confined:  # there are no locks between processes; joblib would warn of that in every program
        found["JOBLIB_MULTIPROCESSING"] = "0"
    return found


def _without_overlay(ids: GuestIds) -> Policy:
    return NAMESPACES_WITHOUT_OVERLAY if ids.per_slot else NAMESPACES_WITHOUT_OVERLAY_SHARED_UID


def _setup(
    settings: Settings,
    host: HostParts,
    policy: Policy,
    *,
    import_path: str,
    agent: str,
    namespaces: NamespaceSetup | None = None,
    landlock: LandlockSetup | None = None,
) -> SlotSetup:
    return SlotSetup(
        cgroups=host.tree is not None,
        uid_per_slot=host.ids.per_slot,
        process_margin=_process_margin(settings, host, namespaces=namespaces is not None),
        workspace_bytes=settings.max_workspace,
        pending_signals=host.shares.pending_signals,
        import_path=import_path,
        agent=agent,
        preload=(),
        seccomp=compile_filter(policy, _machine()).hex(),
        seccomp_of_sessions=compile_filter(SESSION, _machine()).hex(),
        namespaces=namespaces,
        landlock=landlock,
        seccomp_of_workspaces=compile_filter(NAMED_WORKSPACE, _machine()).hex() if settings.workspaces else "",
    )


def _namespace_plan(host: HostParts, entries: list[rootfs.Entry]) -> NamespacePlan:
    return NamespacePlan(
        uid_map=host.ids.uid_map,
        gid_map=host.ids.gid_map,
        map_tool=host.ids.map_tool,
        uid=host.ids.zygote,
        entries=tuple(entries),
        devices=rootfs.DEVICES_AND_TERMINAL,
        device_sets=host.slots,
        owner=host.owner,
        user_limits=host.shares.user_limits,
    )


def _namespace_setup(
    settings: Settings, ids: GuestIds, shown: Iterable[str], programs: Iterable[str]
) -> NamespaceSetup:
    return NamespaceSetup(
        shown=tuple(shown),
        programs=tuple(programs),
        devices=rootfs.DEVICES_AND_TERMINAL,
        masked=rootfs.MASKS,
        shm_bytes=max(settings.max_memory, settings.max_workspace),
        inodes=_INODES,
        seccomp_without_overlay=compile_filter(_without_overlay(ids), _machine()).hex(),
    )


def _process_margin(settings: Settings, host: HostParts, *, namespaces: bool) -> int:
    """What to add to RLIMIT_NPROC where all slots share one id: it counts the processes of all of them together.

    In a user namespace those are ours alone (an init and a worker for each slot, in a session two interpreters);
    without one, the account's are too. With more sessions than are counted here a program may find no process left.
    INVARIANT: it stays small: it is what bounds a fork bomb there, and thousands of dying processes choke a host.
    """
    if host.ids.per_slot:
        return 0
    sessions = min(settings.max_sessions, _SESSIONS_COUNTED)
    ours = 2 * (host.slots - settings.max_sessions) + 3 * sessions
    return ours if namespaces else ours + _tasks_of_account(os.geteuid()) + _SPARE_PROCESSES


def _tasks_of_account(uid: int) -> int:
    """Processes and threads of ``uid`` on this host, now."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == uid:
                count += len(list((process / "task").iterdir()))
    return count


def _machine() -> str:
    return os.uname().machine


def _environment_of_python(languages: Languages) -> dict[str, str]:
    """What most programs find in their environment stands in the zygote's already, so that they need not change it."""
    return next((dict(language.env) for language in languages if language.start is Start.FORK), {})


def _private_libraries(python: Interpreter) -> dict[str, Path]:
    """The shared library that is the interpreter itself, where it is built so and lies outside the system's folders."""
    if python.root is None:
        return {}
    return {path.name: path for path in (python.root / "lib").glob("libpython*.so.*")}
