"""``POST /execute/stream``: run a program and send what happens while it happens."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from codex_server.api.callers import CountedCaller
from codex_server.api.executing import refuse_repetition, respond_with_stream
from codex_server.api.route_docs import STREAM
from codex_server.api.running import take_request
from codex_server.api.services import services_of

router = APIRouter()


@router.post("/execute/stream", **STREAM)
async def stream_code(request: Request, caller: CountedCaller) -> Response:
    """Run a program and send its events as they happen. What can refuse it does so before the first byte."""
    refuse_repetition(request)
    wanted, _ = await take_request(request, services_of(request))
    return await respond_with_stream(request, caller, wanted)
