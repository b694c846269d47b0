"""Device nodes of each slot's own, where the server is root of the host: locks on a node lie on its inode.

A user namespace can make no node that works, so they are made before it, by the launcher.
"""

import os
import socket
import stat
from collections.abc import Sequence

from . import kernel

SETS = "/opt/codex/devices"
"""Where the guest root has them, in a folder for each slot's number."""
_STAGE = "/tmp"  # noqa: S108 - any folder that exists everywhere; the mount is private to a child
_FLAGS = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NOEXEC


def make_sets(devices: Sequence[str], count: int) -> int | None:
    """A descriptor of a detached, read-only tree with ``count`` sets; None where this process may make no nodes.

    A child of this process makes it, so that this one keeps the mounts that it has.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            socket.send_fds(theirs, [b"d"], [_make_tree(devices, count)])
            os._exit(0)
        finally:
            os._exit(1)
    theirs.close()
    with ours:
        _, trees, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
    os.waitpid(child, 0)
    return trees[0] if trees else None


def _make_tree(devices: Sequence[str], count: int) -> int:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    numbers = {os.path.basename(device): os.stat(device).st_rdev for device in devices}
    kernel.mount("devices", _STAGE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=755,size=1m,nr_inodes=100k")
    os.umask(0)
    for number in range(count):
        folder = os.path.join(_STAGE, str(number))
        os.mkdir(folder, 0o755)
        for name, device in numbers.items():
            os.mknod(os.path.join(folder, name), stat.S_IFCHR | 0o666, device)
    tree = kernel.clone_mount(_STAGE)
    kernel.restrict_mount(tree, _FLAGS)
    return tree


def place_of(device: str, number: int) -> str:
    """Where the guest root has slot ``number``'s node of ``device``: the host's own, where there are no sets."""
    own = f"{SETS}/{number}/{os.path.basename(device)}"
    return own if os.path.exists(own) else device
