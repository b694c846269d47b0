"""The operator's folders that sessions may have as their workspaces: mounts of the guest root that no guest sees there.

As root each is mounted with its ids mapped: the folder's owner is the one guest id that its sessions have, so that what
they write is the owner's on the disk. Whoever else owns a file there is nobody in it.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..protocol.launch import NamedFolder
from ..protocol.slot import WorkspacePin
from . import kernel
from .step import StepFailed, step

PLACES = "/opt/codex/workspaces"
"""A file system of its own in the guest root: an overlay over that shows an empty folder."""
STEP = "workspaces"
_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV


def open_folders(folders: Sequence[NamedFolder]) -> dict[str, int]:
    """A detached mount of each, by its place. INVARIANT: without file systems that are mounted inside of it."""
    return {each.place: _open(each) for each in folders}


def _open(folder: NamedFolder) -> int:
    with step(STEP):
        try:
            tree = kernel.clone_mount(folder.folder, below=False)
            status = os.fstat(tree)
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            # INVARIANT: no set-uid bit and no device node counts in it, and where nothing may be written nothing is.
            kernel.restrict_mount(tree, _FLAGS | (kernel.MS_RDONLY if folder.read_only else 0), below=False)
            if folder.guest is not None:
                with _mapping((status.st_uid, folder.guest, 1), (status.st_gid, folder.guest, 1)) as namespace:
                    kernel.map_ids(tree, namespace)
        except OSError as error:
            raise StepFailed(STEP, error.errno, f"{folder.folder}: {_said(error)}") from error
    return tree


def identity(status: os.stat_result) -> str:
    """What no other file of a machine has while this one is open."""
    return f"{status.st_dev}:{status.st_ino}"


def open_pinned(folder: str, pin: WorkspacePin) -> int:
    """The folder itself. INVARIANT: no other one, though a guest of another workspace may have moved its path."""
    with step(STEP):
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
        if identity(os.fstat(top)) != pin.identity:
            os.close(top)
            raise StepFailed(STEP, None, "the folder was replaced")
    return top


@contextmanager
def pinned(folder: str, pin: WorkspacePin | None) -> Iterator[int]:
    """The same, open meanwhile; -1 without ``pin``."""
    top = open_pinned(folder, pin) if pin else -1
    try:
        yield top
    finally:
        if pin:
            os.close(top)


def _said(error: OSError) -> str:
    if error.errno == errno.EINVAL:
        return "its file system cannot be mounted with mapped ids (ext4, xfs, btrfs and tmpfs can, network ones cannot)"
    return os.strerror(error.errno or 0)


@contextmanager
def _mapping(uids: tuple[int, int, int], gids: tuple[int, int, int]) -> Iterator[int]:
    """A user namespace that maps these ids: (on the disk, as seen, how many)."""
    ready, go = os.pipe()
    child = kernel.clone(kernel.CLONE_NEWUSER)
    if child == 0:
        os.close(go)
        os.read(ready, 1)
        os._exit(0)
    os.close(ready)
    try:
        for kind, ids in (("uid", uids), ("gid", gids)):
            with open(f"/proc/{child}/{kind}_map", "wb") as file:
                file.write(" ".join(map(str, ids)).encode())
        namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield namespace
        finally:
            os.close(namespace)
    finally:
        os.close(go)
        os.waitpid(child, 0)
