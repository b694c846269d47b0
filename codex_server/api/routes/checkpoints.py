"""``/checkpoints``: keep files of a session, list and remove what is kept."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from codex_server.api.callers import CountedCaller, ExecutingCaller
from codex_server.api.checkpoints_docs import LIST, LOOK, MAKE, REMOVE
from codex_server.api.disconnect import while_connected
from codex_server.api.routes.sessions import SessionId
from codex_server.api.running import take_object
from codex_server.api.schemas import CheckpointsPage
from codex_server.api.services import TheServices
from codex_server.service.session_request import describe_checkpoint, read_checkpoint
from codex_server.service.session_schemas import CheckpointResponse

router = APIRouter()
A_CHECKPOINT = '{"globs": ["*.csv"]}'

CheckpointId = Annotated[str, Path(max_length=80, description="Id of a checkpoint of the caller's own")]


@router.post("/sessions/{session_id}/checkpoints", **MAKE)
async def make_checkpoint(
    request: Request, response: Response, session_id: SessionId, caller: CountedCaller, services: TheServices
) -> CheckpointResponse:
    """Keep files of a session, for a new one to begin with. Variables are not kept."""
    content, _ = await take_object(request, services, A_CHECKPOINT)
    wanted = read_checkpoint(content)
    session = await services.sessions.find(session_id, caller.key)
    work = services.checkpoints.make(session.live, caller.key, wanted.description, wanted.globs)
    made = await while_connected(request, work)
    response.headers["Location"] = f"/checkpoints/{made.kept.id}"
    return describe_checkpoint(made)


@router.get("/checkpoints", **LIST)
async def list_checkpoints(
    caller: ExecutingCaller,
    services: TheServices,
    cursor: Annotated[str | None, Query(max_length=80, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most checkpoints on the page")] = 20,
) -> CheckpointsPage:
    """The caller's own checkpoints, newest first."""
    found, following = await services.checkpoints.page(caller.key, cursor, limit)
    return CheckpointsPage(checkpoints=list(map(describe_checkpoint, found)), next=following)


@router.get("/checkpoints/{checkpoint_id}", **LOOK)
async def look_at_checkpoint(
    checkpoint_id: CheckpointId, caller: ExecutingCaller, services: TheServices
) -> CheckpointResponse:
    """What a checkpoint holds."""
    return describe_checkpoint(await services.checkpoints.find(checkpoint_id, caller.key))


@router.delete("/checkpoints/{checkpoint_id}", **REMOVE)
async def remove_checkpoint(checkpoint_id: CheckpointId, caller: ExecutingCaller, services: TheServices) -> Response:
    """Remove a checkpoint before its time. Sessions that began with it keep their files."""
    await services.checkpoints.remove(checkpoint_id, caller.key)
    return Response(status_code=204)
