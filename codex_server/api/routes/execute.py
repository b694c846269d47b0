"""``POST /execute``: run a program and tell what became of it."""

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from codex_server.access.idempotency import StoredAnswer
from codex_server.api.callers import ExecutingCaller, within_rate
from codex_server.api.repeating import IdempotencyKey, answer_once
from codex_server.api.route_docs import EXECUTE
from codex_server.api.running import operation_context, run_code, take_request
from codex_server.api.services import TheServices
from codex_server.service.truncation import encode

router = APIRouter()


@router.post("/execute", dependencies=[Depends(within_rate)], **EXECUTE)
async def execute_code(
    request: Request, caller: ExecutingCaller, services: TheServices, idempotency_key: IdempotencyKey = None
) -> Response:
    """Run a program in a fresh sandbox without network. The answer's `status` tells how it went."""
    wanted, body = await take_request(request, services)

    async def run() -> StoredAnswer:
        answer = await run_code(request, caller, wanted, operation_context(request, services))
        return StoredAnswer(200, encode(answer).encode())

    return await answer_once(services.idempotency, caller.key, idempotency_key, body, run)
