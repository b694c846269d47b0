"""Files of the operator that the server reads or locks: a regular file, or nothing of that name, or an error.

INVARIANT: what exists and is no regular file is never taken for absent. A folder in a file's place is what Docker makes
when the file to mount is missing; a server that went on without its settings or tokens would do what nobody asked for.
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
    """The content; None when nothing has that name.

    Raises ``OSError``, whose ``strerror`` says what is there instead, or why it cannot be read.
    """
    if stat_file(path) is None:
        return None
    # Were it replaced by a named pipe just now, opening it must not wait for a writer.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a descriptor
        _check(os.fstat(file.fileno()), path)
        return file.read()


def stat_file(path: Path) -> os.stat_result | None:
    """What is known of a regular file; None when nothing has that name. Raises ``OSError`` as ``read_file`` does."""
    try:
        status = path.stat()
    except FileNotFoundError:
        _check_is_absent(path)
        return None
    _check(status, path)
    return status


def open_lock(path: Path) -> int:
    """A descriptor of the file, which is made when it is missing. Raises ``OSError`` as ``read_file`` does."""
    stat_file(path)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)


def _check(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise OSError(errno.EINVAL, f"it is {kind}", str(path))


def _check_is_absent(path: Path) -> None:
    """A link that leads nowhere is there, whether it is the file or a folder above it."""
    nearest = next((place for place in (path, *path.parents) if os.path.lexists(place)), path)
    if nearest.is_symlink() and not nearest.exists():
        name = "it" if nearest == path else str(nearest)
        raise OSError(errno.EINVAL, f"{name} is a link to {nearest.readlink()}, where there is nothing", str(path))
