"""What is in a workspace: a listing, page by page."""

import errno
import os
import stat
from collections.abc import Iterator
from urllib.parse import quote_from_bytes, unquote_to_bytes

from .globs import matcher
from .problem import Problem, problem_of
from .time_limit import ended_after
from .workspace import Workspace, facts_of

SECONDS = 30.0
MOST_VISITED = 100_000
MOST_DEEP = 64
MOST_IN_NAMES = 2**20
"""Bytes of paths in one reply: their JSON may be 3 times as long, and a reply has an end."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def tree(
    workspace: Workspace, path: str = "", *, depth: int = 32, glob: str | None = None, after: str = "", most: int = 1000
) -> dict[str, object]:
    """At most ``most`` entries below ``path`` with a path that comes after ``after``, in the order of their paths.

    ``glob`` chooses by the whole path, or by the name where it has no slash. ``next`` continues: it is the last path
    in percent-encoding, for a name may be bytes that no JSON can carry.
    """
    found: list[dict[str, object]] = []
    last, room, wanted, passed = b"", MOST_IN_NAMES, matcher(glob), _key(unquote_to_bytes(after))
    with ended_after(SECONDS, f"the listing took more than {SECONDS:g} s; name a folder, or a `glob` with less `*`"):
        for entry, status in walk(workspace, path, depth):
            encoded = os.fsencode(entry)
            if (after and _key(encoded) <= passed) or not wanted(entry):
                continue
            room -= len(encoded)
            if len(found) == most or (found and room < 0):
                return {"entries": found, "next": quote_from_bytes(last)}
            found.append(facts_of(entry, status))
            last = encoded
    return {"entries": found, "next": None}


def walk(
    workspace: Workspace, path: str, depth: int = MOST_DEEP, *, whole: bool = False
) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry below ``path``, a folder before what is in it; no link is followed. Bounded in depth.

    Raises ``Problem`` where there are more than can be visited: who takes what came for all of it would be wrong.
    ``whole``: also for a folder that is deeper, or may not be read.
    """
    yield from _walk(workspace.open_folder(path), path, min(depth, MOST_DEEP), [MOST_VISITED], whole=whole)


def _walk(folder: int, above: str, depth: int, left: list[int], *, whole: bool) -> Iterator[tuple[str, os.stat_result]]:
    try:
        for name in sorted(os.listdir(folder), key=os.fsencode):
            left[0] -= 1
            if left[0] < 0:
                raise Problem("too-many", f"there are more than {MOST_VISITED} entries; name a folder with fewer")
            path = f"{above}/{name}" if above else name
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except (FileNotFoundError, PermissionError):  # it was removed meanwhile, or its folder may not be entered
                continue
            yield path, status
            if not stat.S_ISDIR(status.st_mode):
                continue
            if depth > 1:
                below = _open(folder, name, path, whole=whole)
                if below >= 0:
                    yield from _walk(below, path, depth - 1, left, whole=whole)
            elif whole:
                raise Problem("too-deep", f"{path!r} is more than {MOST_DEEP} folders deep; name a folder nearer to it")
    finally:
        os.close(folder)


def _open(folder: int, name: str, path: str, *, whole: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:  # it may not be entered, or is gone
        if whole and error.errno == errno.EACCES:
            raise problem_of(error, path) from None
        return -1


def _key(path: bytes) -> list[bytes]:
    """Of the order in which ``walk`` comes to a path."""
    return path.split(b"/")
