"""``/files``: upload a file once, list and remove uploads."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from codex_server.api.artifacts_docs import LIST_FILES, REMOVE_FILE, UPLOAD
from codex_server.api.callers import ExecutingCaller, within_rate
from codex_server.api.schemas import FilesPage, UploadedFile
from codex_server.api.services import TheServices
from codex_server.service.kept_files import KeptFile
from codex_server.units import format_seconds, format_size

router = APIRouter()
_AT_ONCE = 2**18
"""Bytes that are gathered before they are written, and that must come within CODEX_RECEIVE_SECONDS."""
_AROUND_A_FILE = 2**16
"""Bytes of a form beside its file."""
_FORM, _WRONG_FORM = "multipart/form-data", "application/x-www-form-urlencoded"

FileId = Annotated[str, Path(max_length=80, description="Id of an uploaded file of the caller's own")]


@router.post("/files", dependencies=[Depends(within_rate)], **UPLOAD)
async def upload_file(
    request: Request,
    caller: ExecutingCaller,
    services: TheServices,
    name: Annotated[str, Query(max_length=1024, description="The file's name, such as `data.csv`")] = "",
) -> UploadedFile:
    """Keep a file for a while: the raw body, or the part `file` of a multipart form.

    `files: [{path, file_id}]` gives it to as many executions as you like.
    """
    sent = request.headers.get("content-type", "")
    _check_type(sent, request.headers.get("content-encoding", "identity"))
    chunks = _gathered(request, services.settings.receive_seconds)
    size = _announced(request)
    if _media_type(sent) != _FORM:
        return _shown(await services.uploads.take(caller.key, _RawFile(name, chunks), size))
    from codex_server.api.form_upload import FormFile, form_too_large  # noqa: PLC0415 - most servers never see a form

    most = services.settings.max_upload + _AROUND_A_FILE
    if size is not None and size > most:
        raise form_too_large(most)
    # The form is longer than its file: its length is a bound for what the file takes of the quotas.
    bound = None if size is None else min(size, services.uploads.max_bytes)
    return _shown(await services.uploads.take(caller.key, FormFile(name, chunks, sent, most), bound))


@router.get("/files", **LIST_FILES)
async def list_files(
    caller: ExecutingCaller,
    services: TheServices,
    cursor: Annotated[str | None, Query(max_length=80, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most files on the page")] = 20,
) -> FilesPage:
    """The caller's own uploaded files, newest first."""
    found, following = await services.uploads.page(caller.key, cursor, limit)
    return FilesPage(files=[_shown(kept) for kept in found], next=following)


@router.delete("/files/{file_id}", **REMOVE_FILE)
async def remove_file(file_id: FileId, caller: ExecutingCaller, services: TheServices) -> Response:
    """Remove an uploaded file before its time. Executions that have it already keep it."""
    await services.uploads.remove(file_id, caller.key)
    return Response(status_code=204)


@dataclass(frozen=True, slots=True)
class _RawFile:
    """A ``SentFile`` that is the body itself."""

    name: str
    chunks: AsyncIterator[bytes]

    async def open(self) -> str:
        return self.name

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks


def _announced(request: Request) -> int | None:
    """The length of the body, where the request says it."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


def _media_type(sent: str) -> str:
    return sent.partition(";")[0].strip().lower()


def _check_type(sent: str, encoding: str) -> None:
    """See that the body is a file, or a form with one. Raises HTTP 415.

    INVARIANT: a web page cannot upload to a server without tokens: ``api/callers.py`` refuses its ``Origin``.
    """
    if _media_type(sent) == _WRONG_FORM:
        raise HTTPException(
            415,
            "the body came as a form without files; send the file itself: curl --data-binary @data.csv -H "
            "'Content-Type: application/octet-stream' .../files?name=data.csv, or curl -F file=@data.csv .../files",
        )
    if encoding.strip().lower() != "identity":
        raise HTTPException(415, "the body is compressed; send it without Content-Encoding")


async def _gathered(request: Request, seconds: float) -> AsyncIterator[bytes]:
    """The body in parts of about ``_AT_ONCE``. Raises HTTP 408 when one of them takes longer than ``seconds``."""
    parts = request.stream()
    more = True
    while more:
        gathered = bytearray()
        try:
            async with asyncio.timeout(seconds):
                while more and len(gathered) < _AT_ONCE:
                    part = await anext(parts, None)
                    more = part is not None
                    gathered += part or b""
        except TimeoutError:
            raise HTTPException(
                408,
                f"{format_size(_AT_ONCE)} of the file did not arrive within {format_seconds(seconds)}; send it faster",
                headers={"Connection": "close"},
            ) from None
        yield bytes(gathered)


def _shown(kept: KeptFile) -> UploadedFile:
    return UploadedFile(
        file_id=kept.id,
        name=kept.facts.name,
        size=kept.facts.size,
        media_type=kept.facts.media_type,
        expires_at=datetime.fromtimestamp(int(kept.expires_at), UTC),
    )
