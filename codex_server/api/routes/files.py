"""``/files``: upload a file once, list and remove uploads."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from codex_server.api.artifacts_docs import LIST_FILES, REMOVE_FILE, UPLOAD
from codex_server.api.callers import ExecutingCaller, within_rate
from codex_server.api.schemas import FilesPage, UploadedFile
from codex_server.api.sent_file import announced_size, is_form, sent_file
from codex_server.api.services import TheServices
from codex_server.service.kept_files import KeptFile

router = APIRouter()
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
    sent = sent_file(request, name, services.settings.max_upload, services.settings.receive_seconds)
    # A form is longer than its file: its length is a bound for what the file takes of the quotas.
    size = announced_size(request)
    bound = min(size, services.uploads.max_bytes) if size is not None and is_form(request) else size
    return _shown(await services.uploads.take(caller.key, sent, bound))


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


def _shown(kept: KeptFile) -> UploadedFile:
    return UploadedFile(
        file_id=kept.id,
        name=kept.facts.name,
        size=kept.facts.size,
        media_type=kept.facts.media_type,
        expires_at=datetime.fromtimestamp(int(kept.expires_at), UTC),
    )
