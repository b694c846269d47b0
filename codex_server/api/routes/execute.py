"""``POST /execute``: run a program and tell what became of it."""

import hashlib
import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from codex_server.access.idempotency import StoredAnswer
from codex_server.api.answer import build_answer, explain
from codex_server.api.callers import ExecutingCaller, within_rate
from codex_server.api.fitting import encode, fit
from codex_server.api.route_docs import EXECUTE
from codex_server.api.running import run_execution, take_execution
from codex_server.api.services import Services, TheServices
from codex_server.model import Execution

router = APIRouter()

_KEY = r"^[\x21-\x7e]{1,255}$"


def _checked_key(key: str) -> str:
    if not re.fullmatch(_KEY, key):
        raise PydanticCustomError("idempotency_key", "must be 1 to 255 printable ASCII characters without spaces")
    return key


IdempotencyKey = Annotated[
    Annotated[str, AfterValidator(_checked_key), Field(json_schema_extra={"pattern": _KEY})] | None,
    Header(
        alias="Idempotency-Key",
        description="Repeat a request safely: the same key and body get the first answer again, for a day",
    ),
]


@router.post("/execute", dependencies=[Depends(within_rate)], **EXECUTE)
async def execute_code(
    request: Request, caller: ExecutingCaller, services: TheServices, idempotency_key: IdempotencyKey = None
) -> Response:
    """Run a program in a fresh sandbox without network. The answer's `status` tells how it went."""
    execution, body = await take_execution(request, services)
    if idempotency_key is None:
        return _answer(await _run(request, services, execution))
    fingerprint = hashlib.sha256(body).digest()
    return await _run_once(
        request, services, execution, caller=caller.key, key=idempotency_key, fingerprint=fingerprint
    )


async def _run_once(
    request: Request, services: Services, execution: Execution, *, caller: str, key: str, fingerprint: bytes
) -> Response:
    """Run it, or replay what the first request with the same key got."""
    store = services.idempotency
    if stored := store.begin(caller, key, fingerprint):
        return _answer(stored, {"Idempotency-Replayed": "true"})
    try:
        answer = await _run(request, services, execution)
        store.finish(caller, key, answer)
    finally:
        store.abandon(caller, key)  # after `finish` there is nothing to abandon
    return _answer(answer)


async def _run(request: Request, services: Services, execution: Execution) -> StoredAnswer:
    outcome = await run_execution(request, services, execution)
    answer = fit(build_answer(outcome), explain(outcome), services.settings.max_response)
    return StoredAnswer(200, encode(answer).encode())


def _answer(answer: StoredAnswer, headers: dict[str, str] | None = None) -> Response:
    return Response(
        answer.body,
        answer.status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )
