"""``GET /docs`` and ``GET /problems``: pages for people, which load nothing from elsewhere."""

import asyncio
import base64
import gzip
import hashlib
import re
from functools import cache
from importlib import resources

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from codex_server.api import problem_pages
from codex_server.api.viewer import NAMES, Asset, read_asset

router = APIRouter(include_in_schema=False)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_NOTHING_ELSE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    + _NOTHING_ELSE
)
"""INVARIANT: the page runs this server's own files and nothing else, and talks to this server alone. Swagger UI draws
its icons from ``data:``. No response of a program is a script: responses are JSON, and ``nosniff`` keeps them that."""


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The OpenAPI document for people, with a form to try each route."""
    content = await asyncio.to_thread(_docs_page)  # the first time it is read from the disk
    return HTMLResponse(content, headers={"Content-Security-Policy": _DOCS_POLICY})


@router.get("/docs/{name}")
async def docs_file(name: str, request: Request) -> Response:
    """A file of that page."""
    if name not in NAMES:
        raise HTTPException(404)
    asset = await asyncio.to_thread(read_asset, name)
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(asset.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=asset.media_type)
    return Response(await asyncio.to_thread(_unpacked, asset), headers=headers, media_type=asset.media_type)


@router.get("/problems")
async def problems() -> HTMLResponse:
    """Every kind of problem: where a problem's ``type`` leads."""
    content = problem_pages.as_html()
    return HTMLResponse(content, headers={"Content-Security-Policy": _policy(content)})


@cache
def _docs_page() -> str:
    return resources.files("codex_server.api").joinpath("pages/docs.html").read_text(encoding="utf-8")


def _takes_gzip(accepted: str) -> bool:
    return re.search(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", accepted) is not None


def _unpacked(asset: Asset) -> bytes:
    return gzip.decompress(asset.packed)


@cache
def _policy(content: str) -> str:
    """INVARIANT: a page runs no script, and nothing but the style that it was shipped with."""
    [style] = _STYLE.findall(content)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; {_NOTHING_ELSE}"
