"""``POST /execute/batch``: run up to a hundred programs and report what became of each."""

import json
from collections.abc import AsyncIterator
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from codex_server.access.idempotency import StoredAnswer
from codex_server.api.callers import CountedCaller, count_against_rate
from codex_server.api.disconnect import while_connected
from codex_server.api.exception_handlers import problem_details
from codex_server.api.protocol import half_close_callbacks
from codex_server.api.repeating import IdempotencyKey, respond_once
from codex_server.api.request_context import context_of
from codex_server.api.route_docs import BATCH
from codex_server.api.running import operation_context, take_object
from codex_server.api.services import Services, TheServices
from codex_server.api.stream import HEADERS, NDJSON, NDJSON_PING, PING_SECONDS, wants_lines
from codex_server.errors import InvalidRequest
from codex_server.operations.context import ignore
from codex_server.operations.execute_code import submit_code
from codex_server.service.batch import Batch, Ran, Result, shares
from codex_server.service.request_parsing import A_BATCH, read_batch
from codex_server.service.truncation import encode, fitted_response

router = APIRouter()
_FRAME = len('{"items":[]}')


@router.post("/execute/batch", **BATCH)
async def execute_batch(
    request: Request, caller: CountedCaller, services: TheServices, idempotency_key: IdempotencyKey = None
) -> Response:
    """Run up to 100 programs, a few at a time. An item that is refused has a `problem` in its place."""
    content, body = await take_object(request, services, A_BATCH)
    wanted = read_batch(content)
    lines = wants_lines(request, "application/json")
    if lines and idempotency_key is not None:
        raise InvalidRequest("a stream is not kept, so it cannot be repeated; leave Idempotency-Key or Accept out")
    if len(wanted.items) > 1:
        count_against_rate(request, caller, services, cost=len(wanted.items) - 1)
    context_of(request).log_fields["items"] = len(wanted.items)
    context = operation_context(request, services, services.settings.max_response // len(wanted.items), follow=ignore)
    check = partial(services.executions.check, caller, len(wanted.items), context.report_quota)
    batch = Batch(wanted, lambda item: submit_code(caller, item, context))
    if lines:
        await check()
        return StreamingResponse(_lines(request, services, batch), media_type=NDJSON, headers=HEADERS)

    async def run() -> StoredAnswer:
        await check()
        results = await while_connected(request, _collect(batch, len(wanted.items)))
        return StoredAnswer(200, (await _together(request, services, results)).encode())

    return await respond_once(services.idempotency, caller.key, idempotency_key, body, run)


async def _collect(batch: Batch, count: int) -> list[Result]:
    found = dict([each async for each in batch.results() if each])
    return [found[place] for place in range(count)]


async def _together(request: Request, services: Services, results: list[Result]) -> str:
    """All of them within one response's size: those that need little leave their room to the others."""
    max_chars = services.settings.max_response
    texts = [await _encoded(request, services, result, max_chars) for result in results]
    room = max_chars - _FRAME - len(texts)
    for place, share in enumerate(shares([len(text) for text in texts], room)):
        if share < len(texts[place]):
            texts[place] = await _encoded(request, services, results[place], share)
    return f'{{"items":[{",".join(texts)}]}}'


async def _lines(request: Request, services: Services, batch: Batch) -> AsyncIterator[str]:
    half_close_callbacks(request.scope).append(batch.wake)
    async for found in batch.results(PING_SECONDS):
        if found:
            place, result = found
            text = await _encoded(request, services, result, services.settings.max_response)
            yield f'{{"index":{place},{text[1:]}\n'
        else:
            yield NDJSON_PING


async def _encoded(request: Request, services: Services, result: Result, max_chars: int) -> str:
    if isinstance(result, Ran):
        return encode(fitted_response(result.execution, result.outcome, services.languages, max_chars))
    problem = await problem_details(request, result)
    return json.dumps({"problem": problem}, ensure_ascii=False, separators=(",", ":"))
