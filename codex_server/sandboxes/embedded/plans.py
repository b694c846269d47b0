"""What the far side is told at each level: how to launch the zygote, and how to arm a slot."""

import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codex_server.interpreters import Interpreter
from codex_server.languages import Language, Languages, Start
from codex_server.sandboxes.embedded import rooms
from codex_server.sandboxes.embedded.cgroup import CgroupTree
from codex_server.sandboxes.embedded.guestids import GuestIds
from codex_server.sandboxes.embedded.policy import CONFINED, CONFINED_OWN_UID, ROOM
from codex_server.sandboxes.embedded.seccomp import compile_filter
from codex_server.sandboxes.embedded.slot import command_of
from codex_server.sandboxes.embedded.zygote import ROOM_FOLDER, Zygote, boot_argv
from codex_server.settings import Settings

_INODES = 20_000
_READABLE = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/fonts", "/etc/group", "/etc/hosts",
    "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types", "/etc/nsswitch.conf", "/etc/passwd", "/etc/perl",
    "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/terminfo",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_SPARE_PROCESSES = 64
"""What an account's own processes may grow by while the server runs, where RLIMIT_NPROC counts them too."""


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """One slot to arm: the body of its ARM frame, and what the server keeps of it."""

    number: int
    body: dict[str, Any]
    environment: dict[str, str]
    folder: Path | None


@dataclass(frozen=True, slots=True)
class HostParts:
    """What this host gives: the interpreter, the guests' ids, cgroups if there are any, the number of slots."""

    python: Interpreter
    ids: GuestIds
    tree: CgroupTree | None
    slots: int


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans of one level on this host."""

    interpreter: Interpreter
    launch_plan: dict[str, Any]
    setup: dict[str, Any]
    slot_uid: Callable[[int], int]
    languages: Languages
    home: Path | None = None
    _environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def for_namespaces(cls, settings: Settings, languages: Languages, host: "HostParts") -> "Plans":
        """Levels ``full`` and ``namespaces``: a room of our own."""
        python, ids, tree = host.python, host.ids, host.tree
        environment = rooms.guest_environment(languages)
        entries = rooms.room_entries(languages, ROOM_FOLDER, host.slots)
        launch_plan = {
            "uid_map": ids.uid_map,
            "gid_map": ids.gid_map,
            "map_tool": ids.map_tool,
            "uid": ids.zygote,
            "entries": rooms.with_private_libraries(entries, _private_libraries(python), f"/opt/{python.name}/lib"),
            "argv": boot_argv(rooms.guest_path(python), str(Path(rooms.ROOM_CODE).parent), "zygote"),
            "env": environment | _environment_of_python(languages),
            "cgroups": [str(folder) for folder in tree.folders] if tree else [],
            "folders": [],
        }
        setup = _setup(settings, host, namespaces=True, cgroups=tree is not None) | {
            "import_path": str(Path(rooms.ROOM_CODE).parent),
            "agent": "/opt/runners/python/agent.py",
            "seccomp": compile_filter(ROOM, _machine()).hex(),
            "masked": rooms.MASKED,
        }
        return cls(python, launch_plan, setup, ids.of_slot, languages, None, environment)

    @classmethod
    def for_confined(cls, settings: Settings, languages: Languages, host: "HostParts", home: Path) -> "Plans":
        """Level ``confined``: the host's own root, seen through Landlock."""
        python, ids = host.python, host.ids
        known = [language for language in languages if language.interpreter is not None]
        roots = [
            str(language.interpreter.root) for language in known if language.interpreter and language.interpreter.root
        ]
        launch_plan = {
            "uid_map": None,
            "argv": boot_argv(str(python.path), str(ROOM_FOLDER.parent), "zygote"),
            "env": rooms.guest_environment([], temp=str(home)),
            "cgroups": [],
            "folders": [str(home)],
        }
        setup = _setup(settings, host, namespaces=False, cgroups=False) | {
            "import_path": str(ROOM_FOLDER.parent),
            "agent": str(next(language.folder for language in known if language.name == "python") / "agent.py"),
            "seccomp": compile_filter(CONFINED_OWN_UID if ids.per_slot else CONFINED, _machine()).hex(),
            "readable": [p for p in (*_READABLE, *roots, *(str(lang.folder) for lang in known)) if Path(p).exists()],
            "writable_devices": [device for device in _DEVICES if Path(device).exists()],
        }
        first = ids.uid_map[1]
        return cls(python, launch_plan, setup, lambda number: first + (number if ids.per_slot else 0), languages, home)

    async def launch(self) -> Zygote:
        """Start a zygote. Raises ``LaunchFailed``."""
        return await Zygote.launch(str(self.interpreter.path), self.launch_plan, self.setup)

    def slot(self, number: int, agent: Language | None) -> SlotPlan:
        """The plan of slot ``number``; ``agent`` is the language whose agent is to be started in it."""
        folder = None
        environment = self._environment
        if self.home:
            folder = self.home / f"{number}-{secrets.token_hex(8)}"
            folder.mkdir(mode=0o700)
            environment = _confined_environment(self.languages, folder)
        body = {
            "uid": self.slot_uid(number),
            "agent": command_of(agent, confined=self.home is not None) if agent else None,
            "env": environment,
            "folder": str(folder) if folder else None,
        }
        return SlotPlan(number, body, environment, folder)


def _confined_environment(languages: Languages, folder: Path) -> dict[str, str]:
    environment = rooms.guest_environment([], temp=str(folder / "tmp"))
    folders = [
        str(language.interpreter.path.parent)
        for language in languages
        if language.interpreter is not None and language.interpreter.root is not None
    ]
    return environment | {"PATH": ":".join([*dict.fromkeys(folders), environment["PATH"]])}


def _setup(settings: Settings, host: HostParts, *, namespaces: bool, cgroups: bool) -> dict[str, Any]:
    return {
        "namespaces": namespaces,
        "cgroups": cgroups,
        "uid_per_slot": host.ids.per_slot,
        "process_margin": 0 if host.ids.per_slot else _shared_id_margin(host.slots, namespaces=namespaces),
        "workspace_bytes": settings.max_workspace,
        "inodes": _INODES,
    }


def _shared_id_margin(slots: int, *, namespaces: bool) -> int:
    """What to add to RLIMIT_NPROC where all slots share one id: it counts the processes of all of them together.

    In a user namespace those are ours alone (an init and a worker for each slot); without one, the account's are too.
    INVARIANT: it stays small: it is what bounds a fork bomb there, and thousands of dying processes choke a host.
    """
    ours = 2 * slots
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
