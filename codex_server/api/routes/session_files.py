"""``/sessions/{session_id}/files``: list, read, write and change the files of a session."""

from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.responses import Response, StreamingResponse

from codex_server.api.callers import ExecutingCaller, within_rate
from codex_server.api.request_context import context_of
from codex_server.api.routes.artifacts import has_it, no_such_range, wanted_ranges
from codex_server.api.running import take_object
from codex_server.api.sent_file import sent_file, sent_files
from codex_server.api.services import Services, TheServices
from codex_server.api.session_files_docs import DOCS
from codex_server.file_errors import FileChanged, FileConflict
from codex_server.mediatypes import media_type
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
    FolderPath,
    ReadRequest,
    ReadResponse,
    SearchRequest,
    SearchResponse,
    TransferRequest,
    UploadedFiles,
    WorkspacePath,
)
from codex_server.service.file_space import FileSpace
from codex_server.service.request_parsing import validated


class _AnyText(PathConvertor):
    """A path with line feeds, too: to Starlette's own one a name ends before a last line feed, and is another one."""

    regex = "(?s:.*)"


register_url_convertor("any_text", _AnyText())
SessionId = Annotated[str, Path(max_length=80, description="Id of a session of the caller's own")]
FilePath = Annotated[WorkspacePath, Path(max_length=4096, description="Path of a file, relative to the workspace")]
_HEADERS = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}
_LATEST = 253402300799
"""The end of the year 9999, the last that HTTP can write; a program may give a file any time."""
_AROUND_TEXTS = 20_000
"""Characters of a response that are not the texts themselves."""
_COUNTED = [Depends(within_rate)]
_Shape = TypeVar("_Shape", bound=BaseModel)


async def _in_session(request: Request, session_id: SessionId, caller: ExecutingCaller, services: TheServices) -> None:
    """A dependency of this router: the files are those of a session."""

    async def find() -> FileSpace:
        session = await services.sessions.find(session_id, caller.key)
        settings = services.settings
        most = min(settings.max_upload, session.live.plan.limits.file_bytes)
        return FileSpace(session.live, session.seen, most, max(10_000, settings.max_response - _AROUND_TEXTS))

    request.state.find_space = find


async def _space(request: Request) -> FileSpace:
    """Where the router's own dependency finds it: the same operations serve sessions and named workspaces."""
    found: FileSpace = await request.state.find_space()
    return found


router = APIRouter(dependencies=[Depends(_in_session)])
TheSpace = Annotated[FileSpace, Depends(_space)]


async def _wanted(request: Request, services: Services, shape: type[_Shape]) -> _Shape:
    """What the body asks for."""
    content, _ = await take_object(request, services, '{"path": "a.txt"}')
    return validated(shape, content)


@router.get("/sessions/{session_id}/files", **DOCS["list"])
async def list_session_files(
    *,
    space: TheSpace,
    path: Annotated[FolderPath, Query(max_length=4096, description="Folder to list; by default the workspace")] = "",
    depth: Annotated[int, Query(ge=1, le=64, description="How many folders deep")] = 32,
    glob: Annotated[
        str | None, Query(max_length=1000, description="Which entries, by name, or by path where it has a slash")
    ] = None,
    cursor: Annotated[str, Query(max_length=12288, description="`next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="Most entries on the page")] = 1000,
) -> FileTree:
    """What is in the workspace, in the order of the paths."""
    return await space.tree(path=path, depth=depth, glob=glob, cursor=cursor, limit=limit)


@router.post("/sessions/{session_id}/files", dependencies=_COUNTED, **DOCS["upload"])
async def upload_session_file(
    request: Request,
    space: TheSpace,
    services: TheServices,
    *,
    path: Annotated[
        WorkspacePath,
        Query(
            max_length=4096, description="Where to write it, or with `/` at its end in which folder; else by its name"
        ),
    ] = "",
    overwrite: Annotated[bool, Query(description="Replace a file that was not read")] = False,
) -> FileFacts | UploadedFiles:
    """Write the file that is the body, or each file of a multipart form: of several the response lists all.

    They are written one after the other up to the first that is refused; then `written` says which.
    """
    written = dict[str, FileFacts]()
    async for target, content in sent_files(request, path, space.max_bytes, services.settings.receive_seconds):
        if target in written:
            raise FileConflict(f"the form has two files for {target!r}; the first was written")
        written[target] = await space.write(target, content, if_match=None, only_new=False, overwrite=overwrite)
        context_of(request).problem_facts["written"] = list(written)
    files = list(written.values())
    return files[0] if len(files) == 1 else UploadedFiles(files=files)


@router.get("/sessions/{session_id}/files/{path:any_text}", **DOCS["fetch"])
async def fetch_session_file(request: Request, space: TheSpace, path: FilePath) -> Response:
    """A file as it is now, with its entity tag; a range of it where one is asked for."""
    facts = await space.file(path)
    etag = f'"{facts.etag}"'
    headers = _HEADERS | {
        "ETag": etag,
        "Last-Modified": formatdate(min(max(facts.modified, 0), _LATEST), usegmt=True),
        "Accept-Ranges": "bytes",
    }
    if has_it(request, etag):
        return Response(status_code=304, headers=headers)
    kind = media_type(path, text=False)
    headers["Content-Type"] = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    first, length = _wanted_part(request, facts.size, etag)
    if length != facts.size:
        headers["Content-Range"] = f"bytes {first}-{first + length - 1}/{facts.size}"
    headers["Content-Length"] = str(length)
    content = await _begun(space.content(facts, first, length))
    return StreamingResponse(content, 206 if length != facts.size else 200, headers)


@router.put("/sessions/{session_id}/files/{path:any_text}", dependencies=_COUNTED, **DOCS["write"])
async def write_session_file(
    request: Request,
    space: TheSpace,
    path: FilePath,
    services: TheServices,
    response: Response,
    *,
    overwrite: Annotated[bool, Query(description="Replace a file that was not read")] = False,
) -> FileFacts:
    """Write a file: the body is its content. One that is there must have been read since it changed."""
    sent = sent_file(request, path, space.max_bytes, services.settings.receive_seconds, any_type=True)
    await sent.open()
    if_match, only_new = _tag(request, "if-match"), request.headers.get("if-none-match", "").strip() == "*"
    try:
        written = await space.write(path, aiter(sent), if_match=if_match, only_new=only_new, overwrite=overwrite)
    except FileConflict as error:
        raise FileChanged(error.detail, **error.facts) if only_new else error from None
    response.headers["ETag"] = f'"{written.etag}"'
    return written


@router.delete("/sessions/{session_id}/files/{path:any_text}", **DOCS["remove"])
async def remove_session_file(
    request: Request,
    space: TheSpace,
    path: FilePath,
    recursive: Annotated[bool, Query(description="Remove a folder with all that is in it")] = False,
) -> Response:
    """Remove a file, a link or a folder."""
    await space.delete(DeleteRequest(path=path, recursive=recursive), _tag(request, "if-match"))
    return Response(status_code=204)


@router.post("/sessions/{session_id}/files/read", dependencies=_COUNTED, **DOCS["read"])
async def read_session_files(request: Request, space: TheSpace, services: TheServices) -> ReadResponse:
    """Read texts: several files at once, each whole or a range of its lines."""
    return await space.read(await _wanted(request, services, ReadRequest))


@router.post("/sessions/{session_id}/files/edit", dependencies=_COUNTED, **DOCS["edit"])
async def edit_session_file(request: Request, space: TheSpace, services: TheServices) -> EditResponse:
    """Replace texts in a file: all of them or none. Each must stand in it exactly once."""
    return await space.edit(await _wanted(request, services, EditRequest))


@router.post("/sessions/{session_id}/files/search", dependencies=_COUNTED, **DOCS["search"])
async def search_session_files(request: Request, space: TheSpace, services: TheServices) -> SearchResponse:
    """Find lines that a regular expression matches."""
    return await space.search(await _wanted(request, services, SearchRequest))


@router.post("/sessions/{session_id}/files/copy", dependencies=_COUNTED, **DOCS["copy"])
async def copy_session_file(request: Request, space: TheSpace, services: TheServices) -> FileFacts:
    """Copy a file or a folder."""
    return await space.copy(await _wanted(request, services, TransferRequest))


@router.post("/sessions/{session_id}/files/move", dependencies=_COUNTED, **DOCS["move"])
async def move_session_file(request: Request, space: TheSpace, services: TheServices) -> FileFacts:
    """Move or rename a file or a folder."""
    return await space.move(await _wanted(request, services, TransferRequest))


@router.post("/sessions/{session_id}/files/delete", dependencies=_COUNTED, **DOCS["delete"])
async def delete_session_file(request: Request, space: TheSpace, services: TheServices) -> FileFacts:
    """Remove a file or a folder, and say what it was."""
    return await space.delete(await _wanted(request, services, DeleteRequest))


@router.post("/sessions/{session_id}/files/combine", dependencies=_COUNTED, **DOCS["combine"])
async def combine_session_files(request: Request, space: TheSpace, services: TheServices) -> FileFacts:
    """Write several files one after the other into one."""
    return await space.combine(await _wanted(request, services, CombineRequest))


@router.post("/sessions/{session_id}/files/archive", dependencies=_COUNTED, **DOCS["archive"])
async def archive_session_files(request: Request, space: TheSpace, services: TheServices) -> FileFacts:
    """Pack files and folders into an archive in the workspace."""
    return await space.archive(await _wanted(request, services, ArchiveRequest))


@router.post("/sessions/{session_id}/files/extract", dependencies=_COUNTED, **DOCS["extract"])
async def extract_session_archive(request: Request, space: TheSpace, services: TheServices) -> ExtractResponse:
    """Take an archive apart into the workspace."""
    return await space.extract(await _wanted(request, services, ExtractRequest))


def _tag(request: Request, header: str) -> str | None:
    """The one entity tag that the header names, or ``*``."""
    field = request.headers.get(header)
    return field.strip().removeprefix("W/").strip('"') if field else None


def _wanted_part(request: Request, size: int, etag: str) -> tuple[int, int]:
    """Where to begin, and how many bytes: one range, or the whole file."""
    field = request.headers.get("range")
    ranges = wanted_ranges(field, size) if field and request.headers.get("if-range", etag) == etag else None
    if ranges is None or len(ranges) > 1:
        return 0, size
    if not ranges:
        raise no_such_range(size)
    first, _, last = ranges[0].partition("-")
    if not first:
        begin = max(0, size - int(last))
        return begin, size - begin
    end = min(size, int(last) + 1) if last else size
    return int(first), end - int(first)


async def _begun(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, once its first piece is there: a refusal before it is still a response of its own."""
    head = await anext(content, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield head
        async for piece in content:
            yield piece

    return whole()
