"""``/sessions/{session_id}/shells``: terminals that remember, by name."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from codex_server.api.callers import ExecutingCaller, count_against_rate
from codex_server.api.disconnect import while_connected
from codex_server.api.running import take_object
from codex_server.api.services import TheServices
from codex_server.api.shells_docs import CALL, CLOSE, LIST
from codex_server.service.request_parsing import validated
from codex_server.service.shell_schemas import ShellRequest, ShellResponse, ShellsResponse

router = APIRouter()
A_COMMAND = '{"command": "ls"}'
SessionId = Annotated[str, Path(max_length=80, description="Id of a session of the caller's own")]
ShellName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,40}$", description="Name of a shell, such as `main`")]


@router.get("/sessions/{session_id}/shells", **LIST)
async def list_shells(session_id: SessionId, caller: ExecutingCaller, services: TheServices) -> ShellsResponse:
    """The shells of a session."""
    session = await services.sessions.find(session_id, caller.key)
    return ShellsResponse(shells=session.shells.entries())


@router.post("/sessions/{session_id}/shells/{name}", **CALL)
async def call_shell(
    request: Request, session_id: SessionId, name: ShellName, caller: ExecutingCaller, services: TheServices
) -> ShellResponse:
    """Type at a shell, wait for its prompt, and get what is new. One that is not there is started."""
    content, _ = await take_object(request, services, A_COMMAND)
    wanted = validated(ShellRequest, content)
    session = await services.sessions.find(session_id, caller.key)
    if session.shells.may_start(name, wanted):  # the rest is input, as of an execution
        count_against_rate(request, caller, services)
    return await session.shells.call(name, wanted, partial(while_connected, request))


@router.delete("/sessions/{session_id}/shells/{name}", **CLOSE)
async def close_shell(
    session_id: SessionId, name: ShellName, caller: ExecutingCaller, services: TheServices
) -> Response:
    """End a shell, and what runs in it."""
    session = await services.sessions.find(session_id, caller.key)
    await session.shells.close(name)
    return Response(status_code=204)
