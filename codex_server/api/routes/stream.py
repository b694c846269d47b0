"""``POST /execute/stream``: run a program and send what happens while it happens."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from codex_server.api.callers import CountedCaller
from codex_server.api.disconnect import while_connected
from codex_server.api.route_docs import STREAM
from codex_server.api.running import operation_context, take_request
from codex_server.api.services import services_of
from codex_server.api.stream import RunStream
from codex_server.errors import InvalidRequest
from codex_server.operations.execute_code import submit_code

router = APIRouter()


@router.post("/execute/stream", **STREAM)
async def stream_code(request: Request, caller: CountedCaller) -> Response:
    """Run a program and send its events as they happen. What can refuse it does so before the first byte."""
    if "idempotency-key" in request.headers:
        raise InvalidRequest("a stream is not kept, so it cannot be repeated; use Idempotency-Key with POST /execute")
    services = services_of(request)
    wanted, _ = await take_request(request, services)
    run = await submit_code(caller, wanted, operation_context(request, services))
    try:
        await while_connected(request, run.admitted())
    except BaseException:
        await run.abandon()
        raise
    return RunStream(request, run, services)
