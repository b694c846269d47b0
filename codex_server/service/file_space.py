"""Files that a caller works on, in whatever session or workspace: every operation, and what its refusals mean.

INVARIANT: what comes back was made where the guest's processes may reach: it is checked against the shapes, and
believed about the guest's own files alone.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, Field, ValidationError

from codex_server.errors import InputRefused, SandboxFault, StorageFull, TooLarge
from codex_server.file_errors import EditRefused, FileChanged, FileConflict, FileRefused, UnknownPath
from codex_server.sandboxes.session import Content
from codex_server.sandboxes.stdin import StandardInput
from codex_server.service.file_schemas import (
    ArchiveRequest,
    CombineRequest,
    DeleteRequest,
    EditRequest,
    EditResponse,
    ExtractRequest,
    ExtractResponse,
    FileFacts,
    FileTree,
    ReadRequest,
    ReadResponse,
    SearchRequest,
    SearchResponse,
    Tag,
    TransferRequest,
)
from codex_server.service.workspace_schemas import WorkspaceFacts

_PIECE = 4 * 2**20
"""Bytes that one operation reads: so much of a file is in memory at once."""
_MOST_UNREAD = 2000
_MOST_ENTRIES = 10_000
_Shape = TypeVar("_Shape", bound=BaseModel)
_REFUSALS: Mapping[str, Callable[..., Exception]] = {
    "not-found": UnknownPath,
    "exists": FileConflict,
    "not-empty": FileConflict,
    "is-folder": FileConflict,
    "not-folder": FileConflict,
    "changed": FileChanged,
    "ambiguous": EditRefused,
    "no-match": EditRefused,
    "too-large": lambda detail, **_: TooLarge(detail),
    "no-space": lambda detail, **_: StorageFull(detail),
}


class Files(Protocol):
    """What carries operations out: a session."""

    async def operate(
        self, request: Mapping[str, object], content: StandardInput, output: Content
    ) -> Mapping[str, object]:
        """See ``SessionSandbox.operate``."""


@dataclass(slots=True)
class SeenFiles:
    """The entity tags of the files that a caller has read or written, as they were then."""

    tags: dict[str, str] = field(default_factory=dict)

    def note(self, path: str, tag: str | None) -> None:
        """The caller knows the file with this tag; None: it is gone."""
        if tag is None:
            self.tags.pop(path, None)
        elif len(self.tags) < _MOST_ENTRIES or path in self.tags:
            self.tags[path] = tag


@dataclass(frozen=True, slots=True)
class FileSpace:
    """``max_bytes`` is the largest file that may be written, ``max_chars`` how much text a response may carry."""

    files: Files
    seen: SeenFiles
    max_bytes: int
    max_chars: int

    async def tree(self, *, path: str, depth: int, glob: str | None, cursor: str, limit: int) -> FileTree:
        """What is below ``path``, a page of it."""
        bounds = {"depth": depth, "glob": glob, "after": cursor, "most": limit}
        return await self._ask(FileTree, {"operation": "tree", "path": path, **bounds})

    async def stat(self, path: str) -> FileFacts:
        """What is at ``path``. Raises ``UnknownPath``."""
        facts = await self._ask(FileFacts, {"operation": "stat", "path": path})
        if facts.type == "file" and facts.etag is None:
            raise _no_sense()
        return facts.model_copy(update={"path": path})

    async def file(self, path: str) -> FileFacts:
        """The file at ``path``. Raises ``UnknownPath``, ``FileConflict`` for what is no file."""
        facts = await self.stat(path)
        _check_file(facts)
        return facts

    async def content(self, facts: FileFacts, offset: int, length: int) -> AsyncIterator[bytes]:
        """Bytes of the file ``facts``, piece by piece. Raises ``FileChanged`` when it is another one by then.

        ``FileConflict`` for what is no file: a link has a size and no tag, and by now a file may be in its place.
        """
        _check_file(facts)
        whole, end = offset == 0 and length >= facts.size, min(facts.size, offset + length)
        while offset < end:
            piece, most = bytearray(), min(_PIECE, end - offset)
            bounds = {"offset": offset, "length": most, "etag": facts.etag}
            await self._ask(FileFacts, {"operation": "read", "path": facts.path, **bounds}, output=_into(piece))
            if len(piece) != most:
                raise SandboxFault("a file of the session is not as long as was said")
            offset += len(piece)
            yield bytes(piece)
        if whole:
            self.seen.note(facts.path, facts.etag)

    async def write(
        self, path: str, body: AsyncIterator[bytes], *, if_match: str | None, only_new: bool, overwrite: bool
    ) -> FileFacts:
        """Replace or make a file. Raises ``FileConflict`` for one that the caller has not read since it changed."""
        if if_match is None and not only_new and not overwrite:
            if_match = await self._known(path)
            only_new = if_match is None
        bounds = {"most": self.max_bytes, "if_match": if_match, "only_new": only_new}
        request = {"operation": "write", "path": path, **bounds}
        written = await self._send(body, request)
        self.seen.note(path, written.etag)
        return written

    async def _known(self, path: str) -> str | None:
        """The tag of the file that is there, which the caller has read; None where nothing is."""
        try:
            facts = await self.stat(path)
        except UnknownPath:
            return None
        if facts.type != "file":
            raise FileConflict(f"{path!r} is there and is no file but a {facts.type}; remove it first")
        if facts.etag == self.seen.tags.get(path):
            return facts.etag
        head = bytearray()
        request = {"operation": "read", "path": path, "length": _MOST_UNREAD}
        now = await self._ask(FileFacts, request, output=_into(head))
        raise FileConflict(
            f"{path!r} is there, and you have not read it as it is now; read it, or send "
            "its `etag` as `If-Match`, or `?overwrite=true`",
            etag=now.etag,
            unread=head[:_MOST_UNREAD].decode("utf-8", "replace"),
        )

    async def _send(self, body: AsyncIterator[bytes], request: Mapping[str, object]) -> FileFacts:
        source = StandardInput(keep_open=True)
        work = asyncio.ensure_future(self._ask(FileFacts, request, source))
        work.add_done_callback(lambda _: source.abandon())  # also where it was never taken up: nothing waits for it
        try:
            try:
                async for chunk in body:
                    await source.feed(chunk)
                source.close()
            except InputRefused:  # the operation has ended: its reply says why
                pass
            return await work
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait([work])

    async def read(self, request: ReadRequest) -> ReadResponse:
        """Texts, whole or in part; a file that was read whole may be overwritten."""
        fields = {**request.model_dump(), "most": self.max_chars}
        found = await self._ask(ReadResponse, {"operation": "read_texts", **fields})
        for path, file in zip(request.paths, found.files, strict=False):
            named = path if file.path == path else path.rpartition(":")[0]
            if file.etag and file.path == named and file.is_whole:
                self.seen.note(named, file.etag)
        return found

    async def edit(self, request: EditRequest) -> EditResponse:
        """Apply edits. Raises ``EditRefused``."""
        edited = await self._ask(_Edited, {"operation": "edit", **request.model_dump()})
        if self.seen.tags.get(request.path) == edited.was:
            self.seen.note(request.path, edited.etag)
        return EditResponse(**edited.model_dump(exclude={"was"}))

    async def overview(self) -> WorkspaceFacts:
        """What is in it, at one glance."""
        return await self._ask(WorkspaceFacts, {"operation": "overview", "most": self.max_chars // 4})

    async def search(self, request: SearchRequest) -> SearchResponse:
        """Lines that match."""
        fields = {**request.model_dump(exclude={"max_results"}), "most": request.max_results}
        return await self._ask(SearchResponse, {"operation": "search", **fields})

    async def delete(self, request: DeleteRequest, if_match: str | None = None) -> FileFacts:
        """Remove a file or a folder."""
        gone = await self._ask(FileFacts, {"operation": "delete", **request.model_dump(), "if_match": if_match})
        self.seen.note(request.path, None)
        return gone

    async def copy(self, request: TransferRequest) -> FileFacts:
        """Copy a file or a folder."""
        return await self._ask(FileFacts, {"operation": "copy", **request.model_dump()})

    async def move(self, request: TransferRequest) -> FileFacts:
        """Move a file or a folder."""
        moved = await self._ask(FileFacts, {"operation": "move", **request.model_dump()})
        self.seen.note(request.to, self.seen.tags.pop(request.path, None))
        return moved

    async def combine(self, request: CombineRequest) -> FileFacts:
        """Write files one after the other into one."""
        bounds = {"most": self.max_bytes}
        made = await self._ask(FileFacts, {"operation": "combine", **request.model_dump(), **bounds})
        self.seen.note(request.to, made.etag)
        return made

    async def archive(self, request: ArchiveRequest) -> FileFacts:
        """Pack files into an archive."""
        made = await self._ask(FileFacts, {"operation": "archive", **request.model_dump()})
        self.seen.note(request.to, made.etag)
        return made

    async def extract(self, request: ExtractRequest) -> ExtractResponse:
        """Take an archive apart."""
        bounds = {"most_bytes": self.max_bytes, "most_entries": _MOST_ENTRIES}
        return await self._ask(ExtractResponse, {"operation": "extract", **request.model_dump(), **bounds})

    async def _ask(
        self,
        shape: type[_Shape],
        request: Mapping[str, object],
        content: StandardInput | None = None,
        output: Content = lambda _: True,
    ) -> _Shape:
        return _reply_as(shape, await self.files.operate(request, content or StandardInput(), output))


class _Edited(EditResponse):
    """``was`` is the entity tag before the edits."""

    was: Tag


class _Facts(BaseModel):
    """What may go with a refusal."""

    etag: Tag | None = None
    edit: int | None = None
    lines: list[int] | None = Field(None, max_length=10)
    closest: "_Closest | None" = None


class _Closest(BaseModel):
    line: int
    text: str = Field(max_length=4000)


def _check_file(facts: FileFacts) -> None:
    if facts.type != "file":
        raise FileConflict(
            f"{facts.path!r} is a {facts.type}, not a file; list a folder with GET /sessions/{{id}}/files?path="
        )


def _into(piece: bytearray) -> Content:
    def take(chunk: bytes) -> bool:
        piece.extend(chunk)
        return len(piece) <= _PIECE

    return take


def _reply_as(shape: type[_Shape], reply: Mapping[str, object]) -> _Shape:
    """What the operation found. Raises the refusal that it reported, ``SandboxFault`` for a reply of another shape."""
    match reply:
        case {"ok": dict(found)}:
            try:
                return shape.model_validate_json(json.dumps(found))  # as JSON: a response can carry no other text
            except ValidationError as error:
                raise _no_sense() from error
        case {"error": {"code": str(code), "detail": str(detail), **facts}}:
            raise _refusal(code, detail, {str(name): fact for name, fact in facts.items()})
        case _:
            raise _no_sense()


def _refusal(code: str, detail: str, facts: Mapping[str, Any]) -> Exception:
    try:
        known = {name: fact for name, fact in facts.items() if name in _Facts.model_fields}
        named = _Facts.model_validate_json(json.dumps(known)).model_dump(exclude_none=True)
    except ValidationError:
        return _no_sense()
    return _REFUSALS.get(code, FileRefused)(detail[:4000].encode("utf-8", "replace").decode(), **named)


def _no_sense() -> SandboxFault:
    return SandboxFault("the reply of a session to an operation on its files makes no sense")
