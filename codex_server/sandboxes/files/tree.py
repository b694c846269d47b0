"""What is in a workspace: a listing, page by page."""

import fnmatch
import os
import stat
from collections.abc import Iterator

from .workspace import Workspace, facts_of

MOST_VISITED = 100_000
MOST_DEEP = 64
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def tree(
    workspace: Workspace, path: str = "", *, depth: int = 32, glob: str | None = None, after: str = "", most: int = 1000
) -> dict[str, object]:
    """At most ``most`` entries below ``path`` with a path that comes after ``after``, in the order of their paths.

    ``glob`` chooses by the whole path, or by the name where it has no slash; ``next`` continues.
    """
    found: list[dict[str, object]] = []
    last = ""
    for entry, status in walk(workspace, path, depth):
        if after and _key(entry) <= _key(after):
            continue
        if glob and not fnmatch.fnmatchcase(entry if "/" in glob else entry.rpartition("/")[2], glob):
            continue
        if len(found) == most:
            return {"entries": found, "next": last}
        found.append(facts_of(entry, status))
        last = entry
    return {"entries": found, "next": None}


def walk(workspace: Workspace, path: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry below ``path``, a folder before what is in it; no link is followed. Bounded in number and depth."""
    yield from _walk(workspace.open_folder(path), path, min(depth, MOST_DEEP), [MOST_VISITED])


def _walk(folder: int, above: str, depth: int, left: list[int]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        for name in sorted(os.listdir(folder), key=os.fsencode):
            left[0] -= 1
            if left[0] < 0:
                return
            path = f"{above}/{name}" if above else name
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:  # it was removed meanwhile
                continue
            yield path, status
            if stat.S_ISDIR(status.st_mode) and depth > 1 and (below := _open(folder, name)) >= 0:
                yield from _walk(below, path, depth - 1, left)
    finally:
        os.close(folder)


def _open(folder: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError:  # it may not be entered, or is gone
        return -1


def _key(path: str) -> tuple[bytes, ...]:
    """Of the order in which ``walk`` comes to a path."""
    return tuple(os.fsencode(path).split(b"/"))
