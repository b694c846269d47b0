"""Build the guest root that the zygote lives in: read-only, of our own making, in fresh namespaces.

The server decides what is in it (``rootfs.py``); here that is only carried out, entry by entry.
"""

import os
import shutil
import socket
import stat
from collections.abc import Sequence

from ..protocol.launch import NamespacePlan
from . import devices, kernel, named_folders, overlay
from .step import step

_STAGE = "/tmp"  # noqa: S108 - any folder that exists everywhere; the mount is private to this namespace
_READ_ONLY = kernel.MS_RDONLY | kernel.MS_NOSUID


Sources = dict[str, int]
"""What is bound and copied into the guest root, by its place in it: descriptors of detached mounts and of files."""


def enter_root(plan: NamespacePlan, sources: Sources) -> None:
    """Build the guest root and enter it; called as PID 1 of the new namespaces, with the id maps written.

    ``sources``: those that the launcher has opened; empty where it may not.
    """
    kernel.die_with_parent()
    with step("mounts"):
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        trees = sources or open_sources(plan.entries) | named_folders.open_folders(plan.workspaces)
    with step("ids"):
        _take_ids(plan.uid)
    with step("tmpfs"):
        kernel.mount("root", _STAGE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=256m")
    with step("mounts"):
        for entry in plan.entries:
            _place(entry, trees)
        if devices.SETS in trees:
            _attach(trees[devices.SETS], _STAGE + devices.SETS)
    if plan.workspaces:
        with step(named_folders.STEP):
            _attach_workspaces(plan, trees)
    with step("tmpfs"):  # an overlay takes no two layers of one file system that lie within one another
        for folder in (overlay.EMPTY, overlay.SPARE):
            kernel.mount("empty", _STAGE + folder, "tmpfs", _READ_ONLY | kernel.MS_NODEV, "mode=755,size=4k")
    with step("proc"):
        kernel.mount("proc", _STAGE + "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    with step("user-limits"):
        for name, value in plan.user_limits.items():
            _limit_users(name, value)
    with step("pivot"):
        _make_root(_STAGE)
    with step("hostname"):
        socket.sethostname("sandbox")


def _attach_workspaces(plan: NamespacePlan, trees: Sources) -> None:
    """INVARIANT: they lie on a file system of their own, which no overlay over the guest root shows."""
    places = _STAGE + named_folders.PLACES
    os.makedirs(places, mode=0o755)
    kernel.mount("workspaces", places, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=700,size=1m")
    for folder in plan.workspaces:
        _attach(trees[folder.place], _STAGE + folder.place)
    top = os.open(places, os.O_PATH | os.O_CLOEXEC)
    kernel.restrict_mount(top, _READ_ONLY | kernel.MS_NODEV, below=False)
    os.close(top)


def _limit_users(name: str, value: int) -> None:
    """Bound what each id inside may have of what the kernel counts by user."""
    with open(f"{_STAGE}/proc/sys/user/{name}", "wb") as limit:
        limit.write(str(value).encode())


def close_sources(sources: Sources) -> None:
    """Let go of them."""
    for descriptor in sources.values():
        os.close(descriptor)


def open_sources(entries: Sequence[Sequence[str]]) -> Sources:
    """Detached copies of every bound folder, and every file that is copied, opened.

    They are taken while the process may still pass folders that only their owner may.
    """
    trees = {}
    for kind, target, *rest in entries:
        if kind == "copy":
            trees[target] = os.open(rest[0], os.O_RDONLY | os.O_CLOEXEC)
        elif kind in ("bind", "cover", "device"):
            tree = kernel.clone_mount(rest[0])
            # INVARIANT: nothing of the host is writable from inside, and no set-uid bit counts in it.
            kernel.restrict_mount(tree, _READ_ONLY | (kernel.MS_NOEXEC if kind == "device" else kernel.MS_NODEV))
            trees[target] = tree
    return trees


def _take_ids(uid: int) -> None:
    """Become ``uid`` inside; where there is one id only it is the same account as before."""
    if uid == 0:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        kernel.die_with_parent()  # the change of uid cleared it
    kernel.keep_capabilities_across_exec()


def _place(entry: Sequence[str], trees: dict[str, int]) -> None:
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
    elif kind == "copy":
        _copy(trees[target], path, int(rest[1], 8) if len(rest) > 1 else 0o644)
    elif kind == "over":
        kernel.mount(_STAGE + rest[0], path, None, kernel.MS_BIND)
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


def _copy(source: int, path: str, mode: int) -> None:
    with open(source, "rb") as original, open(path, "xb") as copy:
        shutil.copyfileobj(original, copy)
        os.fchmod(copy.fileno(), mode)


def _make_root(folder: str) -> None:
    os.chdir(folder)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")
    root = os.open("/", os.O_PATH)
    kernel.restrict_mount(root, _READ_ONLY, below=False)  # what is bound is so already; /proc is the zygote's to write
    os.close(root)
