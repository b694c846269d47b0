"""What is in the guest root: the policy of what a guest can see of the host, as a list of entries (a pure function).

A guest sees the system's programs and libraries, a few harmless files of ``/etc``, its interpreters below ``/opt``, and
nothing else: no home, no ``/var``, no ``/sys``, no ``/run``, no device beyond the five harmless ones and its terminal.
At level ``confined``, where there is no guest root, the same lists say what it may open of the host.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from codex_server.interpreters import Interpreter
from codex_server.languages import Language, Start
from codex_server.packages.package_set import InstalledPackages, guest_folder
from codex_server.paths import WORKSPACE, WORKSPACE_ALIASES
from codex_server.sandboxes.embedded.environments import CONFIGURATION, configuration, program_names
from codex_server.sandboxes.environment import GUEST_PACKAGES
from codex_server.sandboxes.guest import overlay
from codex_server.sandboxes.hidden import HIDDEN_IN_PROC

Entry = tuple[str, ...]
"""``("bind", target, source)``, ``("cover", target, source)`` (over a file that is there), ``("folder", target)``,
``("device", target, source)``, ``("link", target, to)``, ``("file", target, content)``, ``("copy", target, source)`` or
``("over", target, place)`` (a file of the guest root over one that is there)."""

GUEST_CODE = "/opt/codex/sandboxes"
OWN_PROGRAM = "/opt/codex/program"
"""The guest root's own copy of the warm interpreter's program file, which nobody in it may read."""
BOOT_ID = "/opt/codex/boot-id"
NOTHING, EMPTY_FOLDER = "/opt/codex/nothing", overlay.EMPTY
"""What is laid over files and folders that a guest is not to see."""
NODE_MODULES = "/node_modules"
FIRST_SLOT_ID = 10_000
SINGLE_ID = 1000
"""The guest's uid where there is one id only."""

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_SYSTEM = (*_PROGRAMS, "/libx32")
_ETC = (
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/perl",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
)
READABLE = (*_PROGRAMS, *_ETC, "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/passwd")
"""What a guest may read of the host where it has no root of its own; in a guest root, those four files are its own."""

DEVICES = tuple(f"/dev/{name}" for name in ("full", "null", "random", "urandom", "zero"))
"""The devices that a guest has, and may write to."""
DEVICES_AND_TERMINAL = (*DEVICES, "/dev/tty")
"""The same in a guest root. Where a program has no terminal, ``/dev/tty`` cannot be opened."""

_FOLDERS = ("/proc", "/tmp", "/workspace", "/run", "/sys", "/dev/pts", "/dev/shm", "/var")  # noqa: S108
_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/ptmx": "pts/ptmx",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/var/tmp": "/tmp",  # noqa: S108
    **dict.fromkeys(WORKSPACE_ALIASES, WORKSPACE),
}
_LIBRARY_FOLDERS = ("/lib", "/lib64")
_LIBRARY_ROOTS = ("/usr/lib", "/usr/lib64", "/usr/local/lib")

MASKS: Mapping[str, tuple[str, str]] = {
    **{f"/proc/{name}": (NOTHING, EMPTY_FOLDER) for name in HIDDEN_IN_PROC},
    "/proc/sys/kernel/random/boot_id": (BOOT_ID, BOOT_ID),
}
"""What is laid over a file, or over a folder, of /proc."""


def root_entries(languages: Iterable[Language], sandboxes: Path, slots: int) -> list[Entry]:
    """Everything in the guest root, in the order of placing; ``slots`` is the number of guest ids to name."""
    known = [language for language in languages if language.interpreter is not None]
    entries = [*_system(), *_etc(slots), *_devices(), *_of_the_slots()]
    entries += [("folder", folder) for folder in _FOLDERS]
    entries += [("bind", f"{GUEST_CODE}/{name}", str(sandboxes / name)) for name in GUEST_PACKAGES]
    entries += [("bind", runner_folder(language), str(language.folder)) for language in known]
    roots = {root: target for language in known for root, target in _opt_folder(language.interpreter)}
    entries += [("bind", target, str(root)) for root, target in roots.items()]
    return entries + _environment_entries(known) + _package_entries(known)


def runner_folder(language: Language) -> str:
    """Where the guest sees the runner's folder."""
    return f"/opt/runners/{language.name}"


def guest_path(interpreter: Interpreter) -> str:
    """The interpreter's path as the guest sees it: below ``/opt`` when it is not one of the system's."""
    for root, target in _opt_folder(interpreter):
        return str(PurePosixPath(target) / interpreter.path.relative_to(root))
    return str(interpreter.path)


def guest_program(language: Language) -> str:
    """What runs the language's programs, as the guest sees it: for the warm Python, the one in its environment.

    Raises ``ValueError`` for a language without an interpreter.
    """
    if language.interpreter is None:
        raise ValueError(f"{language.name} has no interpreter on this machine")
    environment = _environment_folder(language)
    return f"{environment}/bin/python3" if environment else guest_path(language.interpreter)


def _environment_folder(language: Language) -> str | None:
    """Where the guest sees the warm Python's virtual environment; None for every other language."""
    if language.interpreter is None or language.start is not Start.FORK:
        return None
    return guest_folder(language.interpreter)


def _environment_entries(languages: Iterable[Language]) -> list[Entry]:
    known = dict.fromkeys(lang.interpreter for lang in languages if lang.interpreter and _environment_folder(lang))
    return [entry for interpreter in known for entry in _environment(interpreter)]


def _environment(interpreter: Interpreter) -> list[Entry]:
    """A virtual environment of the guest root's own: no path of the host is in it."""
    folder, base = guest_folder(interpreter), PurePosixPath(guest_path(interpreter))
    return [
        ("file", f"{folder}/{CONFIGURATION}", configuration(base)),
        *(("link", f"{folder}/bin/{name}", str(base)) for name in program_names(base)),
    ]


def _package_entries(languages: Iterable[Language]) -> list[Entry]:
    """Each set of packages once, though several languages may share it."""
    sets = {}
    for language in languages:
        if language.interpreter and language.packages:
            sets[guest_folder(language.interpreter)] = language.interpreter, language.packages
    return [entry for of, packages in sets.values() for entry in _PACKAGES[packages.installer](of, packages)]


def _library(interpreter: Interpreter, installed: InstalledPackages) -> list[Entry]:
    """In the environment, which is empty without them."""
    folder = guest_folder(interpreter)
    return [("bind", f"{folder}/lib", str(installed.folder / "lib")), ("link", f"{folder}/lib64", "lib")]


def _node_modules(interpreter: Interpreter, installed: InstalledPackages) -> list[Entry]:
    """At the top, where Node.js looks last, from the workspace and from anywhere else; each Node.js has the same."""
    return [("bind", NODE_MODULES, str(installed.folder / "node_modules"))]


_PACKAGES: Mapping[str, Callable[[Interpreter, InstalledPackages], list[Entry]]] = {
    "npm": _node_modules,
    "pip": _library,
}
"""How each installer's folder comes into the guest root."""


def program_folders(languages: Iterable[Language]) -> list[str]:
    """The folders of the interpreters that are not the system's, as the guest sees them: what goes first in PATH."""
    known = [language for language in languages if language.interpreter is not None]
    programs = [guest_program(language) for language in known if _environment_folder(language)]
    programs += [guest_path(lang.interpreter) for lang in known if lang.interpreter and lang.interpreter.root]
    return [str(PurePosixPath(program).parent) for program in programs]


def _opt_folder(interpreter: Interpreter | None) -> list[tuple[Path, str]]:
    if interpreter is None or interpreter.root is None:
        return []
    return [(interpreter.root, f"/opt/{interpreter.name}")]


def _system() -> list[Entry]:
    entries: list[Entry] = []
    for folder in map(Path, _SYSTEM):
        if folder.is_symlink():
            entries.append(("link", str(folder), str(folder.readlink())))
        elif folder.is_dir():
            entries.append(("bind", str(folder), str(folder)))
    return entries


def with_private_libraries(entries: list[Entry], libraries: Mapping[str, Path], target: str) -> list[Entry]:
    """``entries`` with ``libraries`` (by name; the guest sees them in ``target``) where the dynamic loader looks.

    An interpreter outside the system's folders may need a shared library of its own, which it would look for at its old
    place. Where the system has one of the same name, ours is laid over it: the loader would take the other one. Else,
    where ``/lib`` is a link, it becomes a folder of links to what it pointed to, and to the library beside them.
    """
    missing = {}
    for name, source in libraries.items():
        places = (path for root in _LIBRARY_ROOTS for depth in ("", "*/") for path in Path(root).glob(depth + name))
        copies = {path.resolve() for path in places}
        entries = entries + [("cover", str(copy), str(source)) for copy in sorted(copies)]
        entries += [("link", f"{overlay.LAYERS}{copy}", f"{target}/{name}") for copy in sorted(copies)]
        if not copies:
            missing[name] = f"{target}/{name}"
    return [changed for entry in entries for changed in _with_links(entry, missing)]


def _with_links(entry: Entry, libraries: Mapping[str, str]) -> list[Entry]:
    if not libraries or entry[0] != "link" or entry[1] not in _LIBRARY_FOLDERS:
        return [entry]
    old = Path("/") / entry[2]
    links = {path.name: str(path) for path in sorted(old.iterdir())} | dict(libraries)
    return [("link", f"{entry[1]}/{name}", to) for name, to in links.items()]


def _etc(slots: int) -> list[Entry]:
    ids = [SINGLE_ID, *range(FIRST_SLOT_ID, FIRST_SLOT_ID + slots)]
    users = ["root:x:0:0:root:/:/usr/sbin/nologin", *(f"runner:x:{i}:{i}::/tmp:/bin/sh" for i in ids)]
    groups = ["root:x:0:", *(f"runner:x:{i}:" for i in ids)]
    files = {
        "/etc/passwd": "\n".join([*users, "nobody:x:65534:65534::/:/usr/sbin/nologin", ""]),
        "/etc/group": "\n".join([*groups, "nogroup:x:65534:", ""]),
        "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
        "/etc/hostname": "sandbox\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "/etc/resolv.conf": "",
    }
    entries: list[Entry] = [("file", path, content) for path, content in files.items()]
    kinds = {path: "bind" if Path(path).is_dir() else "copy" for path in _ETC if Path(path).exists()}
    return entries + [(kind, path, path) for path, kind in kinds.items()]


def _of_the_slots() -> list[Entry]:
    """What the slots' own roots and their /proc are made with."""
    return [
        ("folder", overlay.NEW_ROOT),
        ("folder", overlay.EMPTY),
        ("folder", overlay.SPARE),
        ("file", NOTHING, ""),
    ]


def with_own_program(entries: list[Entry], program: str, source: Path) -> list[Entry]:
    """``entries`` with a copy of the warm interpreter's program file at its place in the guest root, ``program``.

    A forked worker's ``/proc/self/exe`` leads to the file that its zygote runs, past every overlay. It is a copy that
    nobody may read, so no guest can open it, lock it or watch it.
    """
    return [*entries, ("copy", OWN_PROGRAM, str(source), "111"), ("over", program, OWN_PROGRAM)]


def folders_of_agents(shown: Iterable[str], languages: Iterable[Language]) -> list[str]:
    """Those of the ``shown`` folders that hold the program of an agent."""
    agents = [language for language in languages if language.start is Start.AGENT and language.interpreter]
    programs = [PurePosixPath(guest_path(language.interpreter)) for language in agents if language.interpreter]
    return [folder for folder in shown if any(program.is_relative_to(folder) for program in programs)]


def shown_folders(entries: Iterable[Entry]) -> list[str]:
    """The folders of the host that are bound into the guest root, by their place in it."""
    return [entry[1] for entry in entries if entry[0] == "bind"]


def _devices() -> list[Entry]:
    devices: list[Entry] = [("device", device, device) for device in DEVICES_AND_TERMINAL]
    return devices + [("link", target, to) for target, to in _LINKS.items()]
