"""``POST /execute``: run a program and report what became of it."""

import json

from fastapi import APIRouter, Request
from starlette.responses import Response

from codex_server.access.idempotency import StoredAnswer
from codex_server.api.callers import CountedCaller
from codex_server.api.executions_docs import EXECUTE_OR_FOLLOW
from codex_server.api.progress import progress_body
from codex_server.api.repeating import IdempotencyKey, respond_once
from codex_server.api.running import note_response, operation_context, run_code, take_request
from codex_server.api.services import services_of
from codex_server.operations.execute_code import execute_in_background
from codex_server.service.schemas import ExecuteResponse
from codex_server.service.truncation import encode

router = APIRouter()


@router.post("/execute", **EXECUTE_OR_FOLLOW)
async def execute_code(request: Request, caller: CountedCaller, idempotency_key: IdempotencyKey = None) -> Response:
    """Run a program in a fresh sandbox without network. The response's `status` says how it went.

    With `wait_seconds` it runs in the background: 202 with its address when it has not ended by then.
    """
    services = services_of(request)
    wanted, body = await take_request(request, services)

    async def run() -> StoredAnswer:
        context = operation_context(request, services)
        if not wanted.background:
            return _ended(await run_code(request, caller, wanted, context))
        progress = await execute_in_background(caller, wanted, context)
        if progress.response is not None:
            note_response(request, progress.response)
            return _ended(progress.response)
        return StoredAnswer(
            202, json.dumps(progress_body(request, progress), ensure_ascii=False, separators=(",", ":")).encode()
        )

    return await respond_once(services.idempotency, caller.key, idempotency_key, body, run)


def _ended(answer: ExecuteResponse) -> StoredAnswer:
    return StoredAnswer(200, encode(answer).encode())
