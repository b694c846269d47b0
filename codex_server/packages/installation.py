"""Installs a runner's packages: whole or not at all, by one process at a time, telling what it does.

``install_packages`` makes a new folder beside the place where the set belongs, lets an installer fill it, writes the
stamp and renames it: a folder in its place is complete, whatever happened in between. What an earlier attempt left and
what an older manifest asked for is removed, unless a server still uses it.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from codex_server.errors import InstallationFailed
from codex_server.files import open_lock
from codex_server.packages.npm import install_with_npm
from codex_server.packages.package_set import InstalledPackages, Package, PackageSet, read_stamp, write_stamp
from codex_server.packages.pip import install_with_pip
from codex_server.packages.process import ProgressCallback, Tell, quote_end

Installer = Callable[[Path, PackageSet, ProgressCallback], tuple[Package, ...]]
"""Fills a new, empty folder with what a set asks for, and tells what that was. The folder is renamed afterwards, so
nothing in it may depend on its path. Raises ``InstallationFailed``."""

INSTALLERS: Mapping[str, Installer] = {"npm": install_with_npm, "pip": install_with_pip}
"""By the name that ``runner.yaml`` gives."""

_SCRATCH = ".new-"


def install_packages(
    wanted: PackageSet, tell: Tell, installers: Mapping[str, Installer] = INSTALLERS
) -> InstalledPackages:
    """Install ``wanted``, or find that it is there already; takes minutes and needs the registry.

    ``tell`` is told the steps; all that the installer's programs say goes into a log beside the set. Raises
    ``InstallationFailed`` with the cause, its cure and the end of that log; nothing else is left behind.
    """
    root = wanted.folder.parent
    try:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        with _alone(root, tell):
            found = wanted.installed() or _install_logged(wanted, installers[wanted.installer], tell)
            _remove_older(found, root)
            return found
    except OSError as error:
        raise InstallationFailed(_explain(error, root)) from error


def log_of(wanted: PackageSet) -> Path:
    """Where all is written that was said when ``wanted`` was installed last, or could not be."""
    return wanted.folder.parent / f"install-{wanted.interpreter.name}.log"


def _install_logged(wanted: PackageSet, installer: Installer, tell: Tell) -> InstalledPackages:
    file = log_of(wanted)
    # An address of a registry may be in it, with a password: it is for its owner alone.
    with open(file, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
        try:
            return _install(wanted, installer, ProgressCallback(tell, log))
        except InstallationFailed as failure:
            if not log.tell():
                raise  # nothing was begun
            raise InstallationFailed(f"{failure.detail}.\n{quote_end(file)}") from failure


def _install(wanted: PackageSet, installer: Installer, say: ProgressCallback) -> InstalledPackages:
    root = wanted.folder.parent
    _remove_scratch(root)
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=root))
    try:
        scratch.chmod(0o755)
        packages = installer(scratch, wanted, say)
        installed = InstalledPackages(
            scratch, wanted.installer, str(wanted.interpreter.path), packages, _size_of(scratch)
        )
        write_stamp(installed)
        os.sync()  # the new name must not outlive a power cut that the files do not
        shutil.rmtree(wanted.folder, ignore_errors=True)  # one without a stamp is nothing that we made whole
        scratch.rename(wanted.folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    stamped = wanted.installed()
    if stamped is None:
        raise InstallationFailed(f"{wanted.folder} was changed by somebody else meanwhile; install once more")
    return stamped


@contextmanager
def _alone(root: Path, tell: Tell) -> Iterator[None]:
    """One installation at a time below ``root``; another process's is waited for."""
    lock = open_lock(root / ".lock")
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another process installs packages there; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_scratch(root: Path) -> None:
    """What a killed installation left; whoever holds the lock is the only one."""
    for left in root.glob(_SCRATCH + "*"):
        shutil.rmtree(left, ignore_errors=True)


def _remove_older(current: InstalledPackages, root: Path) -> None:
    """Other sets of the same installer and interpreter, unless a server uses them (``sets.in_use``)."""
    for folder in [path for path in root.iterdir() if path.is_dir() and path != current.folder]:
        try:
            other = read_stamp(folder)
        except OSError:
            continue  # nothing that this program made, and so nothing to remove
        if other and (other.installer, other.interpreter) == (current.installer, current.interpreter):
            _remove_unused(folder)


def _remove_unused(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


def _size_of(folder: Path) -> int:
    """Bytes on disk of everything below ``folder``."""
    return sum(
        os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118 - tens of thousands of files
        for place, _, names in os.walk(folder)
        for name in names
    )


def _explain(error: OSError, root: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {root} is full. Free some 2 GiB, or name another folder with CODEX_PACKAGES_DIR"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{root} cannot be written ({error.strerror}). Name another folder with CODEX_PACKAGES_DIR"
    return f"they could not be installed below {root}: {error}"
