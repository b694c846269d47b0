"""The responses to a program, whichever route it came by: its outcome, its address in the background, or a stream."""

import json

from fastapi import Request
from starlette.responses import Response

from codex_server.access.idempotency import StoredAnswer
from codex_server.api.disconnect import while_connected
from codex_server.api.progress import progress_body
from codex_server.api.repeating import respond_once
from codex_server.api.running import note_response, operation_context, run_code
from codex_server.api.services import services_of
from codex_server.api.stream import RunStream
from codex_server.errors import InvalidRequest
from codex_server.model import Caller
from codex_server.operations.execute_code import execute_in_background, submit_code
from codex_server.service.schemas import ExecuteRequest, ExecuteResponse
from codex_server.service.truncation import encode


async def respond_with_outcome(
    request: Request, caller: Caller, wanted: ExecuteRequest, body: bytes, idempotency_key: str | None
) -> Response:
    """Run it, and respond with its outcome; in the background with 202 when it has not ended in time.

    ``body`` is what a repetition with the same ``idempotency_key`` must be equal to.
    """
    services = services_of(request)

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


def refuse_repetition(request: Request) -> None:
    """Raise ``InvalidRequest`` for a stream that is to be repeatable."""
    if "idempotency-key" in request.headers:
        raise InvalidRequest("a stream is not kept, so it cannot be repeated; use Idempotency-Key with POST /execute")


async def respond_with_stream(request: Request, caller: Caller, wanted: ExecuteRequest) -> Response:
    """Run it, and respond with its events. What can refuse it does so before the first byte."""
    services = services_of(request)
    run = await submit_code(caller, wanted, operation_context(request, services))
    try:
        await while_connected(request, run.admitted())
    except BaseException:
        await run.abandon()
        raise
    return RunStream(request, run, services)


def _ended(answer: ExecuteResponse) -> StoredAnswer:
    return StoredAnswer(200, encode(answer).encode())
