"""The packages that a runner's programs may import: which ones are asked for, and whether they are there.

They live apart from the server's own, below one folder, a folder for each set: ``python-3.11-4f0c9a1be2d7``. The last
part is a hash of all that decides what is in it, so a changed manifest, another interpreter and another machine each
get a folder of their own. A folder is there only when it is complete (``installation.py`` renames it into place), and
then has a stamp that tells what is in it: looking costs one small file.
"""

import errno
import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from codex_server.files import read_file
from codex_server.interpreters import Interpreter

STAMP = "installed.json"
_LAYOUT = "2"
"""Part of the hash: raise it when an installer begins to lay out its folder otherwise."""


@dataclass(frozen=True, slots=True)
class Package:
    """One package as its installer names it."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class InstalledPackages:
    """A complete set on disk. ``folder`` is laid out as its installer does; ``size`` in bytes."""

    folder: Path
    installer: str
    interpreter: str
    packages: tuple[Package, ...]
    size: int


@dataclass(frozen=True, slots=True)
class PackageSet:
    """What a runner's manifest asks for, for one interpreter: present in ``folder`` or not.

    ``installer`` is the kind that fills the folder (``npm`` or ``pip``). ``finish`` is a script of the runner that is
    run in the new folder with its interpreter, before it counts as complete; ``parts`` are further files that the
    installer (a lock file) or this script uses.
    """

    title: str
    installer: str
    interpreter: Interpreter
    manifest: Path
    finish: Path | None
    parts: tuple[Path, ...]
    folder: Path

    def installed(self) -> InstalledPackages | None:
        """What is there, or None. Raises ``OSError`` as ``read_stamp`` does."""
        return read_stamp(self.folder)


def guest_folder(interpreter: Interpreter) -> str:
    """Where a guest sees the packages of ``interpreter``, in a room of its own."""
    return f"/opt/{interpreter.name}-packages"


def locate(root: Path, *, installer: str, interpreter: Interpreter, version: str, files: Iterable[Path]) -> Path:
    """The folder below ``root`` for what ``files`` (the manifest first) ask for; a pure function of their content."""
    release = ".".join(version.split(".")[:2])
    parts = [_LAYOUT, installer, str(interpreter.path), platform.machine()]
    digest = hashlib.sha256("\0".join(parts).encode())
    for file in files:
        content = read_file(file)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", str(file))
        digest.update(b"\0" + content)
    return root / f"{interpreter.name}-{release}-{digest.hexdigest()[:12]}"


def read_stamp(folder: Path) -> InstalledPackages | None:
    """The set that ``folder`` holds; None when there is none, or no whole one.

    Raises ``OSError`` when what is there cannot be read, or is no folder with a file in it.
    """
    stamp = read_file(folder / STAMP)
    if stamp is None:
        return None
    try:
        content = json.loads(stamp)
        packages = tuple(Package(str(row["name"]), str(row["version"])) for row in content["packages"])
        installer, interpreter = str(content["installer"]), str(content["interpreter"])
        return InstalledPackages(folder, installer, interpreter, packages, int(content["size"]))
    except (ValueError, KeyError, TypeError):
        return None


def write_stamp(installed: InstalledPackages) -> None:
    """Tell in the folder what is in it; the last thing that is written there."""
    content = {
        "installer": installed.installer,
        "interpreter": installed.interpreter,
        "size": installed.size,
        "packages": [{"name": package.name, "version": package.version} for package in installed.packages],
    }
    (installed.folder / STAMP).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@contextmanager
def in_use(folders: Iterable[Path]) -> Iterator[None]:
    """While it lasts no installation removes ``folders``, though newer ones stand beside them."""
    held = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for folder in folders]
    try:
        for descriptor in held:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
