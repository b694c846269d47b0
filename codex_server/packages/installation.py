"""Installs a runner's packages atomically, one process at a time, and reports the steps.

``install_packages`` makes a new folder beside the final one, lets an installer fill it, writes the stamp and renames
it: a folder with the final name is always complete. Leftovers of an interrupted installation and sets of an older
manifest are removed, unless a server still uses them.
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
from codex_server.packages.process import ProgressCallback, StepCallback, quote_end

Installer = Callable[[Path, PackageSet, ProgressCallback], tuple[Package, ...]]
"""Installs a package set into a new, empty folder and returns what it installed. The folder is renamed afterwards, so
nothing in it may depend on its path. Raises ``InstallationFailed``."""

INSTALLERS: Mapping[str, Installer] = {"npm": install_with_npm, "pip": install_with_pip}
"""Keyed by ``installer`` of ``runner.yaml``."""

_SCRATCH = ".new-"


def install_packages(
    wanted: PackageSet, report: StepCallback, installers: Mapping[str, Installer] = INSTALLERS
) -> InstalledPackages:
    """Install ``wanted`` unless it is installed already; takes minutes and needs the registry.

    ``report`` receives the steps; the commands' whole output goes into a log beside the set. Raises
    ``InstallationFailed`` with the cause, the remedy and the end of that log; a failure leaves nothing else behind.
    """
    root = wanted.folder.parent
    try:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        with _alone(root, report):
            found = wanted.installed() or _install_logged(wanted, installers[wanted.installer], report)
            _remove_older(found, root)
            return found
    except OSError as error:
        raise InstallationFailed(_explain(error, root)) from error


def log_of(wanted: PackageSet) -> Path:
    """The log of the last installation of ``wanted``, successful or not."""
    return wanted.folder.parent / f"install-{wanted.interpreter.name}.log"


def _install_logged(wanted: PackageSet, installer: Installer, report: StepCallback) -> InstalledPackages:
    file = log_of(wanted)
    # It may contain a registry's address with a password, so only its owner may read it.
    with open(file, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
        try:
            return _install(wanted, installer, ProgressCallback(report, log))
        except InstallationFailed as failure:
            if not log.tell():
                raise  # no command was started
            raise InstallationFailed(f"{failure.detail}.\n{quote_end(file)}") from failure


def _install(wanted: PackageSet, installer: Installer, progress: ProgressCallback) -> InstalledPackages:
    root = wanted.folder.parent
    _remove_scratch(root)
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=root))
    try:
        scratch.chmod(0o755)
        packages = installer(scratch, wanted, progress)
        installed = InstalledPackages(
            scratch, wanted.installer, str(wanted.interpreter.path), packages, _size_of(scratch)
        )
        write_stamp(installed)
        os.sync()  # after a power failure the new name must not exist without the files
        shutil.rmtree(wanted.folder, ignore_errors=True)  # a folder without a stamp is incomplete
        scratch.rename(wanted.folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    stamped = wanted.installed()
    if stamped is None:
        raise InstallationFailed(
            f"{wanted.folder} was changed by another process meanwhile; run the installation again"
        )
    return stamped


@contextmanager
def _alone(root: Path, report: StepCallback) -> Iterator[None]:
    """Hold the lock of ``root``, so that one process installs there at a time; waits for it."""
    lock = open_lock(root / ".lock")
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another process installs packages there; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_scratch(root: Path) -> None:
    """Remove what a killed installation left; the caller holds the lock."""
    for left in root.glob(_SCRATCH + "*"):
        shutil.rmtree(left, ignore_errors=True)


def _remove_older(current: InstalledPackages, root: Path) -> None:
    """Remove other sets of the same installer and interpreter, unless a server uses them (``package_set.in_use``)."""
    for folder in [path for path in root.iterdir() if path.is_dir() and path != current.folder]:
        try:
            other = read_stamp(folder)
        except OSError:
            continue  # not made by this program, so not removed
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
    """Return the bytes on disk of everything below ``folder``."""
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
