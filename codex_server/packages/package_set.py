"""The packages that a runner's programs may import: which ones its manifest names, and whether they are installed.

They are kept apart from the server's own packages, one folder for each set: ``python-3.11-4f0c9a1be2d7``. The last part
is a hash of everything that determines the content, so a changed manifest, another interpreter and another machine
each get their own folder. A folder with this name is always complete (``installation.py`` renames it into place) and
has a stamp that lists its content, so a check reads one small file.
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
"""Part of the hash: increase it when an installer changes the layout of its folder."""


@dataclass(frozen=True, slots=True)
class Package:
    """One package as its installer names it."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class InstalledPackages:
    """A complete set on disk. The installer determines the layout of ``folder``; ``size`` in bytes."""

    folder: Path
    installer: str
    interpreter: str
    packages: tuple[Package, ...]
    size: int


@dataclass(frozen=True, slots=True)
class PackageSet:
    """The packages that a runner's manifest names for one interpreter: installed in ``folder`` or not.

    ``installer`` is ``npm`` or ``pip``. ``post_install`` is a script of the runner; its interpreter runs it in the new
    folder as the last step of the installation. ``parts`` are further files that the installer (a lock file) or this
    script uses.
    """

    title: str
    installer: str
    interpreter: Interpreter
    manifest: Path
    post_install: Path | None
    parts: tuple[Path, ...]
    folder: Path

    def installed(self) -> InstalledPackages | None:
        """Return what is installed, or None. Raises ``OSError`` as ``read_stamp`` does."""
        return read_stamp(self.folder)


def guest_folder(interpreter: Interpreter) -> str:
    """The path of the packages of ``interpreter`` in a guest root."""
    return f"/opt/{interpreter.name}-packages"


def locate(root: Path, *, installer: str, interpreter: Interpreter, version: str, files: Iterable[Path]) -> Path:
    """The folder below ``root`` for the set that ``files`` (the manifest first) define, by their content alone."""
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
    """Return the set in ``folder``; None when there is none, or an incomplete one.

    Raises ``OSError`` when the stamp cannot be read, or is not a regular file.
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
    """StepCallback in the folder what is in it; the last thing that is written there."""
    content = {
        "installer": installed.installer,
        "interpreter": installed.interpreter,
        "size": installed.size,
        "packages": [{"name": package.name, "version": package.version} for package in installed.packages],
    }
    (installed.folder / STAMP).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@contextmanager
def in_use(folders: Iterable[Path]) -> Iterator[None]:
    """Keep installations from removing ``folders``, even when newer sets exist."""
    held = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for folder in folders]
    try:
        for descriptor in held:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
