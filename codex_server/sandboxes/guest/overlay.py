"""A slot's own root: an overlay over each folder that the guest root shows, so that no inode of the host's is in it.

Locks, leases and watches lie on inodes. Through an overlay without an upper layer a guest reads the same bytes, from
the same pages of memory, at an inode that only its slot has.
"""

import contextlib
import os
from collections.abc import Sequence

from . import kernel

NEW_ROOT = "/opt/codex/root"
"""Where a slot's root is put together; an empty folder of the guest root."""
LAYERS = "/opt/codex/layers"
"""The upper of two lower layers, at the path of the folder that it lies over: empty but for what replaces a file."""
EMPTY = "/opt/codex/empty"
"""The same for the guest root itself."""
SPARE = "/opt/codex/spare"
"""One more empty file system: see ``_lay_over``."""
_FLAGS = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV


def put_together(folders: Sequence[str], nodes: dict[str, str], programs: Sequence[str]) -> None:
    """Mount the overlays at ``NEW_ROOT``. Raises ``OSError`` where the kernel, or a file system, allows none.

    ``folders``: what is bound into the guest root; ``nodes``: where each device's node comes from; ``programs``: those
    of the folders in which a program looks for its own file.
    """
    for folder in ("", *folders):
        _lay_over(folder, numbered=folder in programs)
    for device, source in nodes.items():
        kernel.mount(source, NEW_ROOT + device, None, kernel.MS_BIND)


def make_root() -> None:
    """Make what was put together the root of this mount namespace, and let go of the guest root."""
    os.chdir(NEW_ROOT)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")


def is_possible(folders: Sequence[str]) -> bool:
    """Whether this kernel, and the file systems of the host, allow it; nothing stays mounted."""
    try:
        put_together(folders, {}, [])
    except OSError:
        return False
    finally:
        _take_apart()
    return True


def _take_apart() -> None:
    while os.path.ismount(NEW_ROOT):
        kernel.unmount(NEW_ROOT)


def _lay_over(folder: str, *, numbered: bool) -> None:
    """``numbered``: files have one inode number, in stat(2) and in ``/proc/self/maps``.

    By that V8 knows the file of its own program, and maps 2 MiB of it instead of copying them (520 page faults fewer
    for each Node.js, measured). With ``xino`` the kernel puts a layer's number into the top bits; with five layers and
    more it takes three of them, and only then the sign, which V8 reads, stays free. The topmost layer is never the
    host's: it is the one whose size and free space statfs(2) reports.
    """
    top = LAYERS + folder if folder else EMPTY
    layers = f"lowerdir={top}:{folder or '/'}"
    if numbered:
        with contextlib.suppress(OSError):  # a kernel that cannot is a little slower
            kernel.mount("overlay", NEW_ROOT + folder, "overlay", _FLAGS, f"xino=on,{layers}:{EMPTY}:{SPARE}")
            return
    kernel.mount("overlay", NEW_ROOT + folder, "overlay", _FLAGS, layers)
