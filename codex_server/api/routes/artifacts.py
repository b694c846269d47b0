"""``GET /artifacts/{artifact_id}``: a file that was too large for its response, by a signed link."""

import re
from email.utils import formatdate
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import FileResponse, Response

from codex_server.api.artifacts_docs import FETCH
from codex_server.api.services import TheServices
from codex_server.service.kept_files import KeptFile

router = APIRouter()
_RANGE = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")
_HEADERS = {
    "Cache-Control": "private",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    # A chat on another origin shows the figure; the signature says who may fetch it.
    "Cross-Origin-Resource-Policy": "cross-origin",
}


@router.get("/artifacts/{artifact_id}", **FETCH)
async def fetch_artifact(
    request: Request,
    artifact_id: Annotated[str, Path(max_length=80, description="Id of the file")],
    services: TheServices,
    expires: Annotated[int, Query(ge=0, le=2**53, description="From the link")] = 0,
    signature: Annotated[str, Query(max_length=80, description="From the link")] = "",
) -> Response:
    """A file of an outcome, as `url` names it. It asks for no token: the link is signed, and ends."""
    kept = await services.artifacts.find(artifact_id, expires, signature)
    headers = _HEADERS | {"ETag": f'"{kept.id}"', "Last-Modified": formatdate(kept.created_at, usegmt=True)}
    if _has_it(request, f'"{kept.id}"'):
        return Response(status_code=304, headers=headers)
    if not is_range(request.headers.get("range", "")):
        request.scope["headers"] = [field for field in request.scope["headers"] if field[0] != b"range"]
    return FileResponse(kept.path, headers=headers | {"Content-Type": _content_type(kept)}, filename=kept.facts.name)


def is_range(field: str) -> bool:
    """Whether ``Range`` is well-formed; one that is not is to be ignored (RFC 9110, 14.2), and the whole file sent."""
    unit, sign, ranges = field.partition("=")
    found = [_RANGE.fullmatch(each.strip()) for each in ranges.split(",")]
    return unit.strip() == "bytes" and bool(sign) and all(each and _is_in_order(*each.groups()) for each in found)


def _is_in_order(first: str, last: str) -> bool:
    return bool(first or last) and not (first and last and int(first) > int(last))


def _has_it(request: Request, etag: str) -> bool:
    """Whether the client says that it has this very file (RFC 9110, If-None-Match)."""
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]


def _content_type(kept: KeptFile) -> str:
    return f"{kept.facts.media_type}; charset=utf-8" if kept.facts.text else kept.facts.media_type
