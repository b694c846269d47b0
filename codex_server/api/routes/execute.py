"""``POST /execute``: run a program and report what became of it."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from codex_server.api.callers import CountedCaller
from codex_server.api.executing import respond_with_outcome
from codex_server.api.executions_docs import EXECUTE_OR_FOLLOW
from codex_server.api.repeating import IdempotencyKey
from codex_server.api.running import take_request
from codex_server.api.services import services_of

router = APIRouter()


@router.post("/execute", **EXECUTE_OR_FOLLOW)
async def execute_code(request: Request, caller: CountedCaller, idempotency_key: IdempotencyKey = None) -> Response:
    """Run a program in a fresh sandbox without network. The response's `status` says how it went.

    With `wait_seconds` it runs in the background: 202 with its address when it has not ended by then.
    """
    wanted, body = await take_request(request, services_of(request))
    return await respond_with_outcome(request, caller, wanted, body, idempotency_key)
