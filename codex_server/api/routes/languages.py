"""``GET /languages``: what can run."""

from fastapi import APIRouter, Request

from codex_server.api.callers import AnyCaller
from codex_server.api.route_docs import LANGUAGES
from codex_server.api.running import operation_context
from codex_server.api.services import TheServices
from codex_server.operations.list_languages import LIST_LANGUAGES
from codex_server.operations.operation import NoInput
from codex_server.service.schemas import LanguagesResponse

router = APIRouter()


@router.get("/languages", **LANGUAGES)
async def list_languages(request: Request, caller: AnyCaller, services: TheServices) -> LanguagesResponse:
    """Every language that the server knows, with the version of the interpreter that it found."""
    return await LIST_LANGUAGES(caller, NoInput(), operation_context(request, services))
