"""The state of a git work tree, read from its files: no git runs, and so nothing that a repository configures."""

import hashlib
import os
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .problem import Problem
from .workspace import Workspace, shown

_MOST_INDEX = 32 * 2**20
_MOST_SMALL = 64 * 1024
_MOST_COMPARED = 2**20
"""Bytes of a file whose content is compared; a larger one with another time counts as changed."""
_MOST_CHANGED = 200
_ENTRY = struct.Struct(">10I20sH")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HEAD = "ref: "
_EXTENDED, _NAME_LENGTH = 0x4000, 0xFFF


class Tracked(NamedTuple):
    """A file of the index: when it was changed (seconds), its size, its mode and the hash of its content."""

    path: str
    modified: int
    size: int
    mode: int
    digest: bytes


def git_state(workspace: Workspace, files: Mapping[str, os.stat_result], *, whole: bool) -> dict[str, object] | None:
    """Branch, commit and the tracked files that differ from the index; None where there is no git work tree.

    ``files`` are those of the workspace; without ``whole`` there are more, and none counts as deleted.
    """
    head = _small(workspace, ".git/HEAD")
    if head is None:
        return None
    branch = head.removeprefix(_HEAD).strip() if head.startswith(_HEAD) else None
    commit = _commit_of(workspace, branch) if branch else head.strip()
    changed = _changes(workspace, files, whole=whole)
    return {
        "branch": shown(branch.removeprefix("refs/heads/")) if branch else None,
        "commit": commit if commit and _COMMIT.fullmatch(commit) else None,
        "changed": None if changed is None else changed[:_MOST_CHANGED],
        "truncated": changed is not None and len(changed) > _MOST_CHANGED,
    }


def _small(workspace: Workspace, path: str) -> str | None:
    content = _content(workspace, path, _MOST_SMALL)
    return None if content is None else content.decode("utf-8", "surrogateescape")


def _content(workspace: Workspace, path: str, most: int) -> bytes | None:
    """At most ``most`` bytes of a file; None where no regular file can be read."""
    try:
        file = workspace.open_file(path)
    except (OSError, Problem):
        return None
    try:
        return os.pread(file, most, 0)
    finally:
        os.close(file)


def _commit_of(workspace: Workspace, ref: str) -> str | None:
    loose = _small(workspace, f".git/{ref}")
    if loose:
        return loose.strip()
    packed = (line.partition(" ") for line in (_small(workspace, ".git/packed-refs") or "").splitlines())
    return next((digest for digest, _, name in packed if name == ref), None)


def _changes(
    workspace: Workspace, files: Mapping[str, os.stat_result], *, whole: bool
) -> list[dict[str, object]] | None:
    """None where there is no index of a kind that is known here."""
    index = _content(workspace, ".git/index", _MOST_INDEX)
    if index is None:
        return None
    changed: list[dict[str, object]] = []
    try:
        for tracked in _tracked(index):
            if len(changed) > _MOST_CHANGED:
                break
            if (what := _difference(workspace, tracked, files.get(tracked.path), whole=whole)) is not None:
                changed.append({"path": shown(tracked.path), "change": what})
    except (struct.error, ValueError):
        return None
    return changed


def _tracked(index: bytes) -> Iterator[Tracked]:
    """The entries of an index of version 2 or 3. Raises ``ValueError`` or ``struct.error`` for anything else."""
    magic, version, count = struct.unpack_from(">4sII", index)
    if magic != b"DIRC" or version not in (2, 3):
        raise ValueError("not an index of version 2 or 3")
    offset = 12
    for _ in range(count):
        _, _, modified, _, _, _, mode, _, _, size, digest, flags = _ENTRY.unpack_from(index, offset)
        begin = offset + _ENTRY.size + (2 if flags & _EXTENDED else 0)
        end = index.index(b"\0", begin + min(flags & _NAME_LENGTH, _NAME_LENGTH - 1))
        yield Tracked(os.fsdecode(index[begin:end]), modified, size, mode, digest)
        offset += (end - offset + 8) // 8 * 8


def _difference(workspace: Workspace, tracked: Tracked, status: os.stat_result | None, *, whole: bool) -> str | None:
    if not stat.S_ISREG(tracked.mode):  # a link, or another repository
        return None
    if status is None:
        return "deleted" if whole else None
    if not stat.S_ISREG(status.st_mode) or status.st_size & 0xFFFF_FFFF != tracked.size:
        return "modified"
    if int(status.st_mtime) == tracked.modified:
        return None
    content = _content(workspace, tracked.path, _MOST_COMPARED + 1)
    if content is None or len(content) > _MOST_COMPARED:
        return "modified"
    digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).digest()
    return None if digest == tracked.digest else "modified"
