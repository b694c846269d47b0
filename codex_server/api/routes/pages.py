"""``GET /docs`` and ``GET /problems``: pages for eyes, which load nothing from elsewhere."""

import asyncio
import base64
import hashlib
import re
from functools import cache
from importlib import resources

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from codex_server.api import problem_pages

router = APIRouter(include_in_schema=False)
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The OpenAPI document for eyes, with a form to try each route."""
    return _page(await asyncio.to_thread(_docs_page))  # the first time it is read from the disk


@router.get("/problems")
async def problems() -> HTMLResponse:
    """Every kind of problem: where a problem's ``type`` leads."""
    return _page(problem_pages.as_html())


def _page(content: str) -> HTMLResponse:
    return HTMLResponse(content, headers={"Content-Security-Policy": _policy(content)})


@cache
def _docs_page() -> str:
    return resources.files("codex_server.api").joinpath("pages/docs.html").read_text(encoding="utf-8")


@cache
def _policy(content: str) -> str:
    """INVARIANT: a page runs the script that it was shipped with and nothing else, and talks to this server alone."""
    allowed = {"script": "'none'", "style": "'none'"}
    for kind, text in _INLINE.findall(content):
        allowed[kind] = f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    return (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
