"""A program's way through a route, whichever it came by: body to request, the operation, facts for the log."""

import hashlib
from collections.abc import Callable

from fastapi import Request

from codex_server.api.body import check_is_json, parse_object, read_body
from codex_server.api.callers import quota_headers
from codex_server.api.disconnect import while_connected
from codex_server.api.request_context import context_of
from codex_server.api.services import Services
from codex_server.execution.run import Run
from codex_server.model import Caller
from codex_server.operations.context import Context
from codex_server.operations.execute_code import EXECUTE_CODE
from codex_server.service.request_parsing import A_PROGRAM, read_request
from codex_server.service.schemas import ExecuteRequest, ExecuteResponse
from codex_server.service.truncation import WHOLE, Form

_MOST_USER_AGENT = 200
"""Characters of a client's name of itself that are kept."""


async def take_request(request: Request, services: Services) -> tuple[ExecuteRequest, bytes]:
    """What the body asks for, and the body."""
    content, body = await take_object(request, services, A_PROGRAM)
    return read_request(content), body


async def take_object(request: Request, services: Services, example: str) -> tuple[dict[str, object], bytes]:
    """The body's JSON object, and the body; ``example`` is an object as the route takes it."""
    check_is_json(request)
    settings = services.settings
    body = await read_body(request, max_bytes=settings.max_body, seconds=settings.receive_seconds)
    return parse_object(body, example), body


def operation_context(
    request: Request,
    services: Services,
    max_chars: int | None = None,
    form: Form = WHOLE,
    follow: Callable[[Run], None] | None = None,
) -> Context:
    """What an operation works with: by default the response may be as long as the server's cap."""
    room = services.settings.max_response if max_chars is None else min(services.settings.max_response, max_chars)
    user_agent = request.headers.get("user-agent")
    return Context(
        node=services.node,
        executions=services.executions,
        uploads=services.uploads,
        sessions=services.sessions,
        settings=services.settings,
        languages=services.languages,
        max_chars=room,
        form=form,
        follow=follow or (lambda run: note_run(request, run)),
        report_quota=lambda standing: context_of(request).headers.update(quota_headers(standing)),
        request_id=context_of(request).request_id,
        user_agent=user_agent[:_MOST_USER_AGENT] if user_agent else None,
    )


async def run_code(request: Request, caller: Caller, wanted: ExecuteRequest, context: Context) -> ExecuteResponse:
    """Run it, unless the caller leaves before."""
    response = await while_connected(request, EXECUTE_CODE(caller, wanted, context))
    note_response(request, response)
    return response


def note_run(request: Request, run: Run) -> None:
    """Put into the request's log line what is to run; code is never logged."""
    code = run.execution.code.encode()
    context_of(request).log_fields |= {
        "execution_id": run.id,
        "language": run.execution.language,
        "code_bytes": len(code),
        "code_sha256": hashlib.sha256(code).hexdigest(),
    }


def note_response(request: Request, response: ExecuteResponse) -> None:
    """Put into it what became of that."""
    context_of(request).log_fields |= {
        "outcome": response.status.value,
        "exit_code": response.exit_code,
        "stdout_bytes": response.usage.stdout_bytes,
        "stderr_bytes": response.usage.stderr_bytes,
        "wall_seconds": response.usage.wall_seconds,
    }
