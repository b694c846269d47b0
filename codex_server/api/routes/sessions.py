"""``/sessions``: open, look at, use, interrupt and close sessions."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from codex_server.access.idempotency import StoredAnswer
from codex_server.api.callers import CountedCaller, ExecutingCaller
from codex_server.api.executing import refuse_repetition, respond_with_outcome, respond_with_stream
from codex_server.api.repeating import IdempotencyKey, respond_once
from codex_server.api.request_context import context_of
from codex_server.api.running import take_object, take_request
from codex_server.api.schemas import InterruptResponse, SessionsPage
from codex_server.api.services import Services, TheServices
from codex_server.api.sessions_docs import CLOSE, EXECUTE_IN, INTERRUPT, LIST, LOOK, OPEN, STREAM_IN
from codex_server.errors import InvalidRequest
from codex_server.model import Caller
from codex_server.service.open_session import OpenSession
from codex_server.service.schemas import ExecuteRequest
from codex_server.service.session_request import describe_session, read_session, to_opening
from codex_server.service.session_schemas import SessionRequest, SessionResponse

router = APIRouter()
A_SESSION = '{"ttl_seconds": 900}'

SessionId = Annotated[str, Path(max_length=80, description="Id of a session of the caller's own")]


@router.post("/sessions", **OPEN)
async def open_session(
    request: Request, caller: CountedCaller, services: TheServices, idempotency_key: IdempotencyKey = None
) -> Response:
    """Open a session: a sandbox that keeps its variables and files from one execution to the next."""
    content, body = await take_object(request, services, A_SESSION)
    wanted = read_session(content)

    async def make() -> StoredAnswer:
        session = await _open(wanted, caller, services)
        context_of(request).log_fields["session_id"] = session.id
        return StoredAnswer(201, describe_session(session, services.languages).model_dump_json().encode())

    return await respond_once(services.idempotency, caller.key, idempotency_key, body, make)


async def _open(wanted: SessionRequest, caller: Caller, services: Services) -> OpenSession:
    uploaded = await services.uploads.contents(wanted.files, caller.key, services.settings.max_workspace)
    kept = await services.checkpoints.contents(wanted.checkpoint, caller.key) if wanted.resumes else ()
    opening = to_opening(wanted, caller.key, services.settings, services.languages, uploaded=uploaded, kept=kept)
    return await services.sessions.open(opening.plan, opening.terms)


@router.get("/sessions", **LIST)
async def list_sessions(
    caller: ExecutingCaller,
    services: TheServices,
    cursor: Annotated[str | None, Query(max_length=80, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most sessions on the page")] = 20,
) -> SessionsPage:
    """The caller's own open sessions, newest first."""
    found, following = await services.sessions.page(caller.key, cursor, limit)
    return SessionsPage(sessions=[describe_session(each, services.languages) for each in found], next=following)


@router.get("/sessions/{session_id}", **LOOK)
async def look_at_session(session_id: SessionId, caller: ExecutingCaller, services: TheServices) -> SessionResponse:
    """How a session stands. Looking does not prolong its life; one that has ended is 410, with when and why."""
    return describe_session(await services.sessions.find(session_id, caller.key), services.languages)


@router.delete("/sessions/{session_id}", **CLOSE)
async def close_session(session_id: SessionId, caller: ExecutingCaller, services: TheServices) -> Response:
    """End a session with all that runs in it. Its variables and files are gone."""
    await services.sessions.end(session_id, caller.key)
    return Response(status_code=204)


@router.post("/sessions/{session_id}/interrupt", **INTERRUPT)
async def interrupt_session(session_id: SessionId, caller: ExecutingCaller, services: TheServices) -> InterruptResponse:
    """Interrupt the execution that runs in a session, as Ctrl-C would; variables and files stay."""
    session = await services.sessions.find(session_id, caller.key)
    return InterruptResponse(interrupted=session.live.interrupt())


@router.post("/sessions/{session_id}/execute", **EXECUTE_IN)
async def execute_in_session(
    request: Request,
    session_id: SessionId,
    caller: CountedCaller,
    services: TheServices,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Run a program in a session, with the variables and files of those before. One runs at a time."""
    wanted, body = await _take(request, services, session_id)
    # The session is part of what a repetition must be equal to, as it is in the body of POST /execute.
    repeated = f"{session_id}\n".encode() + body
    return await respond_with_outcome(request, caller, wanted, repeated, idempotency_key)


@router.post("/sessions/{session_id}/execute/stream", **STREAM_IN)
@router.post("/sessions/{session_id}/stream", include_in_schema=False)
async def stream_in_session(
    request: Request, session_id: SessionId, caller: CountedCaller, services: TheServices
) -> Response:
    """Run a program in a session and send its events as they happen."""
    refuse_repetition(request)
    wanted, _ = await _take(request, services, session_id)
    return await respond_with_stream(request, caller, wanted)


async def _take(request: Request, services: Services, session_id: str) -> tuple[ExecuteRequest, bytes]:
    """What the body asks for, in the session that the address names, and the body."""
    wanted, body = await take_request(request, services)
    if wanted.in_session and wanted.session != session_id:
        raise InvalidRequest("it names another session than the address does; leave it out", "/session")
    return wanted.model_copy(update={"session": session_id}), body
