"""Checkpoints: files of a session that are kept under an id, for a new session to begin with.

A kept file holds a line of JSON, which describes the checkpoint, and then the contents of its files in order.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_server.errors import InvalidRequest, SessionBusy, UnknownCheckpoint
from codex_server.execution.session import Session
from codex_server.model import InputFile
from codex_server.service.cursors import Cursors
from codex_server.service.globs import matcher
from codex_server.service.kept_files import FileFacts, KeptFile, KeptFiles
from codex_server.service.session_files import SessionFiles
from codex_server.units import format_sizes

PREFIX = "chk"
MOST_FILES = 1000
_MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint: ``files`` are the paths and sizes of what it holds."""

    kept: KeptFile
    description: str
    files: tuple[tuple[str, int], ...]


class Checkpoints:
    """Keeps checkpoints among ``files`` for ``seconds``; one holds at most ``max_bytes``.

    INVARIANT: a checkpoint of another caller is unknown, whatever is asked of it.
    """

    def __init__(self, files: KeptFiles, cursors: Cursors, *, seconds: float, max_bytes: int) -> None:
        self._files, self._cursors, self._seconds, self._max_bytes = files, cursors, seconds, max_bytes
        self._making: set[str] = set()

    async def make(self, session: Session, owner: str, description: str, globs: Sequence[str]) -> Checkpoint:
        """Keep the files of ``session`` that one of ``globs`` means, as they are now.

        Raises ``InvalidRequest`` when none is, or too much; ``StorageFull``; ``SessionBusy`` while another one of
        ``owner`` is made: its files are in memory meanwhile.
        """
        if owner in self._making:
            raise SessionBusy("another checkpoint of yours is being made; send this again when that is there")
        self._making.add(owner)
        try:
            return await self._make(session, owner, description, globs)
        finally:
            self._making.remove(owner)

    async def _make(self, session: Session, owner: str, description: str, globs: Sequence[str]) -> Checkpoint:
        contents = await self._read(SessionFiles(session), globs)
        files = tuple((file.path, len(file.content)) for file in contents)
        head = json.dumps({"description": description, "files": files}).encode() + b"\n"
        size = len(head) + sum(size for _, size in files)
        async with self._files.receive(PREFIX, owner, FileFacts("", size, _MEDIA_TYPE), self._seconds) as target:
            await target.write(head)
            for file in contents:
                await target.write(file.content)
        return Checkpoint(target.kept, description, files)

    async def find(self, checkpoint_id: str, owner: str) -> Checkpoint:
        """The checkpoint of ``owner`` with that id. Raises ``UnknownCheckpoint``."""
        kept = await self._files.find(checkpoint_id) if checkpoint_id.startswith(f"{PREFIX}_") else None
        found = await _described(kept) if kept and kept.owner == owner else None
        if found is None:
            raise UnknownCheckpoint(
                f"no checkpoint of yours has the id {checkpoint_id[:80]!r}, or its time is over; "
                "GET /checkpoints lists those that there are"
            )
        return found

    async def page(self, owner: str, cursor: str | None, limit: int) -> tuple[list[Checkpoint], str | None]:
        """The checkpoints of ``owner``, the newest first, and the cursor of the next page."""
        found, following = await self._files.page(PREFIX, owner, await self._cursors.open(cursor, owner), limit)
        described = [checkpoint for kept in found if (checkpoint := await _described(kept))]
        return described, await self._cursors.seal(following, owner)

    async def remove(self, checkpoint_id: str, owner: str) -> None:
        """Remove it. Raises ``UnknownCheckpoint``."""
        await self._files.remove((await self.find(checkpoint_id, owner)).kept)

    async def contents(self, checkpoint_id: str, owner: str) -> tuple[InputFile, ...]:
        """The files that it holds. Raises ``UnknownCheckpoint``."""
        checkpoint = await self.find(checkpoint_id, owner)
        return await asyncio.to_thread(_read_contents, checkpoint)

    async def _read(self, files: SessionFiles, globs: Sequence[str]) -> list[InputFile]:
        listed = await files.listed(matcher(globs))
        if not listed:
            raise InvalidRequest(
                "no file of the session is meant by these patterns, so there is nothing to keep", "/globs"
            )
        total = sum(file.size for file in listed)
        if len(listed) > MOST_FILES or total > self._max_bytes:
            shown, cap = format_sizes(total, self._max_bytes)
            raise InvalidRequest(
                f"{len(listed)} files with {shown} are meant, and a checkpoint holds {MOST_FILES} and {cap}",
                "/globs",
            )
        return await self._contents(files, [file.path for file in listed])

    async def _contents(self, files: SessionFiles, paths: Sequence[str]) -> list[InputFile]:
        """What is in them now: the guest may have changed them since they were listed."""
        left, found = self._max_bytes, list[InputFile]()
        for path in paths:
            if file := await files.read(path, left):
                left -= len(file.content)
                found.append(file)
        return found


async def _described(kept: KeptFile) -> Checkpoint | None:
    """The checkpoint in a kept file; None when that was removed meanwhile."""
    try:
        head = await asyncio.to_thread(_read_head, kept.path)
    except FileNotFoundError:
        return None
    return Checkpoint(kept, head["description"], tuple((path, size) for path, size in head["files"]))


def _read_head(path: Path) -> dict[str, Any]:
    with path.open("rb") as source:
        head: dict[str, Any] = json.loads(source.readline())
    return head


def _read_contents(checkpoint: Checkpoint) -> tuple[InputFile, ...]:
    with checkpoint.kept.path.open("rb") as source:
        source.readline()
        return tuple(InputFile(path, source.read(size)) for path, size in checkpoint.files)
