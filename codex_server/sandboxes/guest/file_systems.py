"""What the file systems in memory of a slot hold."""

import os
from collections.abc import Iterable

_INODE_BYTES = 1024
"""What the kernel keeps in memory for a file beside its content: its inode and its name."""


def content_bytes(folders: Iterable[str]) -> int:
    """Bytes that the content of the files in these file systems takes."""
    looks = map(os.statvfs, folders)
    return sum((each.f_blocks - each.f_bfree) * each.f_frsize for each in looks)


def inode_bytes(folders: Iterable[str]) -> int:
    """Bytes that their inodes take."""
    return _INODE_BYTES * sum(each.f_files - each.f_ffree for each in map(os.statvfs, folders))


def look_of(folder: str) -> tuple[object, ...]:
    """Differs once anything was made, changed or removed in ``folder``, the root of a tmpfs."""
    status, usage = os.stat(folder), os.statvfs(folder)
    times = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
    return (*times, status.st_mode, status.st_uid, status.st_nlink, usage.f_bfree, usage.f_ffree)
