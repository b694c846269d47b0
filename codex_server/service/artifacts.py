"""Artifacts: files of an outcome that do not stand in its response, and can be fetched by a signed link for a while."""

import asyncio
import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from codex_server.errors import ArtifactGone, CodexError, StorageFull, UnknownArtifact
from codex_server.mediatypes import media_type
from codex_server.model import MANY, Ending, FileLink, Outcome, OutputFile, SkippedFile
from codex_server.service.cell_results import readable_result
from codex_server.service.kept_files import FileFacts, KeptFile, KeptFiles
from codex_server.service.response import as_text, readable_name
from codex_server.service.server_secret import server_secret
from codex_server.service.signed_links import KEY_NAME, SignedLinks
from codex_server.store.base import Store, since_epoch
from codex_server.units import format_sizes

_PREFIX = "art"
_LINK_CHARS = 400
"""What an entry with a link takes at most in a response, beside its path."""
_REST_CHARS = 2000
"""What a response has beside its streams and files."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ArtifactBounds:
    """What may be kept of one execution: bytes of a file, and of all its files together."""

    file_bytes: int
    execution_bytes: int


@dataclass(frozen=True, slots=True)
class Inlining:
    """What a response can carry: bytes of one file, and characters in all."""

    file_bytes: int
    room: int


class Artifacts:
    """Keeps files of outcomes in ``files``, and finds them by their links."""

    def __init__(self, files: KeptFiles, store: Store, bounds: ArtifactBounds, base_url: str = "") -> None:
        self._files, self._store, self._bounds, self._base_url = files, store, bounds, base_url
        self._links: SignedLinks | None = None

    async def keep(self, outcome: Outcome, owner: str, inlining: Inlining) -> Outcome:
        """``outcome`` with a link for each file that the response may not carry; the content of large ones is gone.

        What cannot be kept is a skipped file, with the reason.
        """
        files = outcome.ending.files
        small = [file for file in files if len(file.content) <= inlining.file_bytes]
        crowded = _needs_more_than(inlining.room, outcome, small)
        if not crowded and len(small) == len(files):
            return outcome
        kept: list[OutputFile] = []
        skipped: list[SkippedFile] = []
        left = self._bounds.execution_bytes
        for file in files:
            large = len(file.content) > inlining.file_bytes
            made = await self._link(file, owner, left) if large or crowded else None
            if isinstance(made, FileLink):
                left -= made.size
                kept.append(replace(file, content=b"" if large else file.content, link=made))
            elif large:
                skipped.append(SkippedFile(file.path, len(file.content), str(made)))
            else:
                kept.append(file)
        return replace(outcome, ending=_with_files(outcome.ending, kept, skipped))

    async def find(self, file_id: str, expires: int, signature: str) -> KeptFile:
        """The file of a link. Raises ``UnknownArtifact`` for a link that this server did not make, ``ArtifactGone``.

        INVARIANT: whoever has no genuine link learns nothing, not even whether the file exists.
        """
        links = await self._signer()
        if not links.is_genuine(file_id, expires, signature):
            raise UnknownArtifact("the link is not one that this server made; copy it whole, with its signature")
        found = await self._files.find(file_id) if expires > since_epoch() else None
        if found is None:
            raise ArtifactGone(
                "the file is not kept any more; run the program again, and fetch its files before `expires_at`"
            )
        return found

    async def _link(self, file: OutputFile, owner: str, left: int) -> FileLink | str:
        """The link of a file that is now kept, or why it is not."""
        size = len(file.content)
        if size > self._bounds.file_bytes or size > left:
            return _too_large(size, self._bounds, left)
        try:
            links = await self._signer()
            kept = await self._files.keep(_PREFIX, owner, await asyncio.to_thread(_facts, file), file.content)
        except StorageFull as error:
            return error.detail
        except (OSError, CodexError) as error:
            _log.error("a file of an execution cannot be kept", extra={"cause": str(error)})
            return "the server could not keep it; whoever runs the server finds the cause in its log"
        expires = math.floor(kept.expires_at)
        return FileLink(links.url(kept.id, expires), size, kept.facts.media_type, datetime.fromtimestamp(expires, UTC))

    async def _signer(self) -> SignedLinks:
        if self._links is None:
            self._links = SignedLinks(await server_secret(self._store, KEY_NAME), self._base_url)
        return self._links


def _with_files(ending: Ending, kept: Iterable[OutputFile], skipped: Iterable[SkippedFile]) -> Ending:
    together = sorted((*ending.skipped_files, *skipped), key=lambda each: (each.path == MANY, each.path))
    return replace(ending, files=tuple(kept), skipped_files=tuple(together))


def _facts(file: OutputFile) -> FileFacts:
    text = as_text(file.content) is not None
    name = readable_name(file.path).rpartition("/")[2]
    return FileFacts(name, len(file.content), media_type(file.path, text=text), text)


def _too_large(size: int, bounds: ArtifactBounds, left: int) -> str:
    if size > bounds.file_bytes:
        shown, cap = format_sizes(size, bounds.file_bytes)
        return f"it is {shown}, above the {cap} that are kept of one file"
    shown, cap = format_sizes(size, bounds.execution_bytes)
    return f"it is {shown}, and of one execution's files {cap} are kept; the files before it took the room"


def _needs_more_than(room: int, outcome: Outcome, files: Sequence[OutputFile]) -> bool:
    """Whether a response with all of ``files`` in it may be longer than ``room``, rather too early than too late."""
    if not files:
        return False
    taken = (
        _REST_CHARS
        + _LINK_CHARS * len(outcome.ending.files)
        + sum(6 * len(file.path) + 100 for file in outcome.ending.skipped_files)
    )
    texts = [outcome.stdout.text, outcome.stderr.text] * 2
    if outcome.ending.cell and outcome.ending.cell.result:
        texts.append(json.dumps(readable_result(outcome.ending.cell.result)))
    size = sum(map(len, texts)) + sum(len(file.content) for file in files)
    if taken + 6 * size <= room:  # JSON writes no character as more than six
        return False
    if taken + size > room:
        return True
    return taken + sum(map(_json_chars, texts)) + sum(_file_chars(file) for file in files) > room


def _file_chars(file: OutputFile) -> int:
    text = as_text(file.content)
    return _json_chars(text) if text is not None else 4 * (len(file.content) + 2) // 3


def _json_chars(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False))
