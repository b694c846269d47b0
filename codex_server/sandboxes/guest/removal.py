"""Remove what slots leave on the host: their cgroups, and at level ``confined`` a folder that a guest has filled.

INVARIANT: however deep that folder is, however it is locked, no path inside is opened by name from outside: each step
goes through the descriptor of its folder and follows no link. ``shutil.rmtree`` recurses and keeps a descriptor for
each level, so a deep tree would stop it.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Sequence

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str) -> None:
    """Remove ``path`` and all below it. Raises ``OSError`` for what cannot be removed; a missing one is no error."""
    try:
        top = _open_folder(path, None)
    except FileNotFoundError:
        return
    try:
        prefix = f".{secrets.token_hex(8)}-"
        moved = 0
        while names := os.listdir(top):
            for name in names:
                if not _unlinked(name, top):
                    moved = _flatten(name, top, prefix, moved)
    finally:
        os.close(top)
    os.rmdir(path)


def _flatten(name: str, top: int, prefix: str, moved: int) -> int:
    """Remove the folder ``name`` after moving the folders in it up to ``top``, so that the tree is never deep."""
    folder = _open_folder(name, top)
    try:
        for inner in os.listdir(folder):
            if not _unlinked(inner, folder):
                os.close(_open_folder(inner, folder))  # a folder that may not be written may not be moved either
                os.rename(inner, f"{prefix}{moved}", src_dir_fd=folder, dst_dir_fd=top)
                moved += 1
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)
    return moved


def _unlinked(name: str, folder: int) -> bool:
    """Whether ``name`` was removed: it was not a folder."""
    with contextlib.suppress(IsADirectoryError):
        os.unlink(name, dir_fd=folder)
        return True
    return False


def _open_folder(name: str, parent: int | None) -> int:
    """Open a folder for listing, whatever its mode."""
    place = os.open(name, _FOLDER, dir_fd=parent)
    try:
        own = f"/proc/self/fd/{place}"
        with contextlib.suppress(PermissionError):  # another's folder: its mode does not keep root out
            os.chmod(own, 0o700)
        return os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(place)


def remove_cgroups(folders: Sequence[str]) -> None:
    """Remove each folder and the empty cgroups below it; processes that just died may hold one for a moment."""
    for folder in folders:
        for path, _, _ in os.walk(folder, topdown=False):
            _remove_cgroup(path)


def _remove_cgroup(path: str) -> None:
    for _ in range(200):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
        else:
            return
