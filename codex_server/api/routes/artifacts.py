"""``GET /artifacts/{artifact_id}``: a file that was too large for its response, by a signed link."""

import re
from email.utils import formatdate
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.exceptions import HTTPException
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
    etag, modified = f'"{kept.id}"', formatdate(kept.created_at, usegmt=True)
    headers = _HEADERS | {"ETag": etag, "Last-Modified": modified}
    if has_it(request, etag):
        return Response(status_code=304, headers=headers)
    ranges = wanted_ranges(request.headers.get("range", ""), kept.facts.size)
    if request.headers.get("if-range", etag) not in (etag, modified):
        ranges = None
    if ranges == []:
        raise no_such_range(kept.facts.size)
    _ask_for(request, ranges)
    return FileResponse(kept.path, headers=headers | {"Content-Type": _content_type(kept)}, filename=kept.facts.name)


def wanted_ranges(field: str, size: int) -> list[str] | None:
    """The ranges of ``Range`` that a file of ``size`` bytes has.

    None for a field that is not well-formed: it is to be ignored (RFC 9110, 14.2), and the whole file sent.
    """
    unit, sign, ranges = field.partition("=")
    found = [_RANGE.fullmatch(each.strip()) for each in ranges.split(",")]
    if unit.strip() != "bytes" or not sign or not all(each and _is_in_order(each[1], each[2]) for each in found):
        return None
    return [each[0] for each in found if each and _is_within(each[1], each[2], size)]


def _is_in_order(first: str, last: str) -> bool:
    return bool(first or last) and not (first and last and int(first) > int(last))


def _is_within(first: str, last: str, size: int) -> bool:
    """Whether anything of the range is there; without ``first`` it is the last so many bytes."""
    return int(first) < size if first else bool(size and int(last))


def _ask_for(request: Request, ranges: list[str] | None) -> None:
    """Let the request's ``Range`` be these."""
    others = [field for field in request.scope["headers"] if field[0] != b"range"]
    asked = [(b"range", f"bytes={','.join(ranges)}".encode())] if ranges else []
    request.scope["headers"] = others + asked


def no_such_range(size: int) -> HTTPException:
    """The refusal of a range that a file of ``size`` bytes does not have."""
    return HTTPException(
        416,
        f"nothing of that range is in the file, which has {size} bytes; leave `Range` out, or begin below {size}",
        headers={"Content-Range": f"bytes */{size}"},
    )


def has_it(request: Request, etag: str) -> bool:
    """Whether the client says that it has this very file (RFC 9110, If-None-Match)."""
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]


def _content_type(kept: KeptFile) -> str:
    return f"{kept.facts.media_type}; charset=utf-8" if kept.facts.text else kept.facts.media_type
