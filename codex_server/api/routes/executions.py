"""``/executions``: list, follow and cancel executions by their ids."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from codex_server.api.callers import ExecutingCaller
from codex_server.api.disconnect import while_connected
from codex_server.api.executions_docs import CANCEL, FEED, FOLLOW, LIST
from codex_server.api.progress import progress_response
from codex_server.api.running import take_object
from codex_server.api.schemas import ExecutionsPage
from codex_server.api.services import TheServices
from codex_server.service.request_parsing import AN_INPUT, read_input

router = APIRouter()
MOST_WAIT_SECONDS = 60.0
"""Longest wait of one poll: a proxy ends a response that does not begin for longer."""

ExecutionId = Annotated[str, Path(description="Id of an execution of the caller's own")]
Since = Annotated[
    int, Query(ge=0, le=2**53, description="Cursor: `next` of the response before; only newer output is returned")
]
WaitSeconds = Annotated[
    float, Query(ge=0, le=MOST_WAIT_SECONDS, description="Longest wait for something new, in seconds")
]


@router.get("/executions", **LIST)
async def list_executions(
    caller: ExecutingCaller,
    services: TheServices,
    cursor: Annotated[str | None, Query(max_length=80, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most executions on the page")] = 20,
) -> ExecutionsPage:
    """The caller's own executions, newest first; on the first page also those that still run."""
    entries, following = await services.executions.page(caller.key, cursor, limit)
    return ExecutionsPage(executions=entries, next=following)


@router.get("/executions/{execution_id}", **FOLLOW)
async def follow_execution(
    *,
    request: Request,
    execution_id: ExecutionId,
    caller: ExecutingCaller,
    services: TheServices,
    since: Since = 0,
    wait_seconds: WaitSeconds = 0.0,
) -> Response:
    """What is new of an execution: its output after `since`, and its outcome once it has ended."""
    work = services.executions.progress(execution_id, caller.key, since, wait_seconds)
    return progress_response(request, await while_connected(request, work))


@router.delete("/executions/{execution_id}", **CANCEL)
async def cancel_execution(
    request: Request, execution_id: ExecutionId, caller: ExecutingCaller, services: TheServices, since: Since = 0
) -> Response:
    """Kill an execution, or take it out of the queue. Returns how it stands then; an ended one stays as it is."""
    return progress_response(request, await services.executions.cancel(execution_id, caller.key, since))


@router.post("/executions/{execution_id}/input", status_code=204, **FEED)
async def feed_execution(
    request: Request, execution_id: ExecutionId, caller: ExecutingCaller, services: TheServices
) -> Response:
    """Send input to a program that was started with `keep_stdin_open`, or end its input."""
    content, _ = await take_object(request, services, AN_INPUT)
    await services.executions.write(execution_id, caller.key, read_input(content))
    return Response(status_code=204, headers={"Cache-Control": "no-store"})
