"""``/actions/...``: the door for ChatGPT's actions, with a document of its own and lean responses."""

import re

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from codex_server.api.actions_document import MAX_CHARS, PATH, build_actions_document
from codex_server.api.callers import AnyCaller, CountedCaller
from codex_server.api.running import operation_context, run_code, take_request
from codex_server.api.services import TheServices
from codex_server.errors import NoPublicAddress
from codex_server.operations.health_check import HEALTH_CHECK
from codex_server.operations.list_languages import LIST_LANGUAGES
from codex_server.operations.operation import NoInput
from codex_server.service.lean import LEAN, encode, lean_health, lean_languages, lean_outcome
from codex_server.settings import Settings

router = APIRouter(prefix=PATH, include_in_schema=False)  # its own document describes it
_PUBLIC_NAME = re.compile(r"([\w-]+\.)+[a-z][\w-]+", re.ASCII | re.IGNORECASE)
_NOT_KEPT = {"Cache-Control": "no-store"}
_REMEDY = "set CODEX_PUBLIC_URL to the https address that ChatGPT is to call, such as https://code.example.org"


@router.get("/openapi.json")
async def actions_document(request: Request, services: TheServices) -> Response:
    """The document to import into ChatGPT."""
    settings = services.settings
    return JSONResponse(build_actions_document(settings, find_address(settings, request)), headers=_NOT_KEPT)


@router.post("/execute")
async def execute(request: Request, caller: CountedCaller, services: TheServices) -> Response:
    """Run a program in a fresh sandbox without network."""
    wanted, _ = await take_request(request, services)
    context = operation_context(request, services, MAX_CHARS, LEAN)
    return _respond(lean_outcome(await run_code(request, caller, wanted, context)))


@router.get("/languages")
async def languages(request: Request, caller: AnyCaller, services: TheServices) -> Response:
    """What can run."""
    found = await LIST_LANGUAGES(caller, NoInput(), operation_context(request, services))
    return _respond(lean_languages(found))


@router.get("/health")
async def health(request: Request, caller: AnyCaller, services: TheServices) -> Response:
    """How the server is."""
    return _respond(lean_health(await HEALTH_CHECK(caller, NoInput(), operation_context(request, services))))


def find_address(settings: Settings, request: Request) -> str:
    """Where ChatGPT reaches this server: the setting, else the name by which a trusted proxy says it was called.

    Raises ``NoPublicAddress``. What anybody else says in ``Host`` is not repeated: tokens would follow it. Nor is a
    name that a proxy has for this server (127.0.0.1:8000), which many put there in place of their own.
    """
    address = settings.public_url
    if address is None and request.url.scheme == "https" and _PUBLIC_NAME.fullmatch(request.url.hostname or ""):
        address = f"https://{request.url.netloc}"
    if address is None:
        raise NoPublicAddress(f"this server does not know its public address; {_REMEDY}")
    if not address.startswith("https://"):
        raise NoPublicAddress(f"CODEX_PUBLIC_URL is {address}, and ChatGPT calls nothing but https; {_REMEDY}")
    return address


def _respond(content: BaseModel) -> Response:
    return Response(encode(content), headers=_NOT_KEPT, media_type="application/json")
