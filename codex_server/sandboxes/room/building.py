"""Build the room that the zygote lives in: a read-only root of our own making, in fresh namespaces.

What is in the room is decided by the server (``rootfs.py``); here it is only carried out, entry by entry.
"""

import os
import socket
import stat
from typing import Any

from . import kernel
from .faults import step

_STAGE = "/tmp"  # noqa: S108 - any folder that exists everywhere; the mount is private to this namespace
_READ_ONLY = kernel.MS_RDONLY | kernel.MS_NOSUID


def enter_room(plan: dict[str, Any]) -> None:
    """Build the room and make it the root; called as PID 1 of the new namespaces, with the id maps written."""
    kernel.die_with_parent()
    with step("mounts"):
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        trees = _clone_sources(plan["entries"])
    with step("ids"):
        _take_ids(plan["uid"])
    with step("tmpfs"):
        kernel.mount("room", _STAGE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=4m")
    with step("room"):
        for entry in plan["entries"]:
            _place(entry, trees)
    with step("proc"):
        kernel.mount("proc", _STAGE + "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    # INVARIANT: no user namespace can be made inside the room, whatever the syscall filter says.
    with step("no-nested-namespaces"), open(_STAGE + "/proc/sys/user/max_user_namespaces", "wb") as limit:
        limit.write(b"0")
    with step("pivot"):
        _make_root(_STAGE)
    with step("hostname"):
        socket.sethostname("sandbox")


def _clone_sources(entries: list[list[Any]]) -> dict[str, int]:
    """Detached copies of every bound folder, taken while the process may still pass folders that only its owner may."""
    trees = {}
    for kind, target, *rest in entries:
        if kind in ("bind", "cover", "device"):
            tree = kernel.clone_mount(rest[0])
            # INVARIANT: nothing of the host is writable from the room, and no set-uid bit counts in it.
            kernel.restrict_mount(tree, _READ_ONLY | (kernel.MS_NOEXEC if kind == "device" else kernel.MS_NODEV))
            trees[target] = tree
    return trees


def _take_ids(uid: int) -> None:
    """Become ``uid`` of the room; in a room with one id it is the same account as before."""
    if uid == 0:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        kernel.die_with_parent()  # the change of uid cleared it
    kernel.keep_capabilities_across_exec()


def _place(entry: list[Any], trees: dict[str, int]) -> None:
    kind, target, *rest = entry
    path = _STAGE + target
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    if kind == "folder":
        os.makedirs(path, mode=0o755, exist_ok=True)
    elif kind == "link":
        os.symlink(rest[0], path)
    elif kind == "file":
        _write(path, rest[0])
    elif kind == "cover":
        kernel.attach_mount(trees[target], path)
        os.close(trees[target])
    else:
        _attach(trees[target], path)


def _attach(tree: int, path: str) -> None:
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        os.makedirs(path, mode=0o755, exist_ok=True)
    else:
        _write(path, "")
    kernel.attach_mount(tree, path)
    os.close(tree)


def _write(path: str, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with open(descriptor, "wb") as file:
        file.write(content.encode())


def _make_root(folder: str) -> None:
    os.chdir(folder)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")
    root = os.open("/", os.O_PATH)
    kernel.restrict_mount(root, _READ_ONLY)
    os.close(root)
