"""Reads and locks the operator's files: a regular file, a missing file, or an error.

INVARIANT: something that exists and is not a regular file never counts as missing. Docker makes a folder in place of a
missing file to mount; a server that then started without its settings or tokens would do what nobody asked for.
"""

import errno
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder, not a file; Docker makes one where the file to mount is missing",
    stat.S_IFIFO: "a named pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}


def read_file(path: Path) -> bytes | None:
    """Return the content; None when the file is missing.

    Raises ``OSError``, whose ``strerror`` says what is in its place, or why it cannot be read.
    """
    if stat_file(path) is None:
        return None
    # If a named pipe has replaced it meanwhile, open must not wait for a writer.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a descriptor
        _check(os.fstat(file.fileno()), path)
        return file.read()


def stat_file(path: Path) -> os.stat_result | None:
    """Return the status of a regular file; None when it is missing. Raises ``OSError`` as ``read_file`` does."""
    try:
        status = path.stat()
    except FileNotFoundError:
        _check_is_absent(path)
        return None
    _check(status, path)
    return status


def open_lock(path: Path) -> int:
    """Open the file, created when missing; return its descriptor. Raises ``OSError`` as ``read_file`` does."""
    stat_file(path)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)


def _check(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file")
        raise OSError(errno.EINVAL, f"it is {kind}", str(path))


def _check_is_absent(path: Path) -> None:
    """Raise when the file or a folder above it is a dangling link: it then does not count as missing."""
    nearest = next((place for place in (path, *path.parents) if os.path.lexists(place)), path)
    if nearest.is_symlink() and not nearest.exists():
        name = "it" if nearest == path else str(nearest)
        raise OSError(errno.EINVAL, f"{name} is a link to {nearest.readlink()}, where there is nothing", str(path))
