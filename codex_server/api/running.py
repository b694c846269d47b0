"""A program's way through a route, whichever door it came by: body to ``Execution``, run, facts for the log."""

import hashlib

from fastapi import Request

from codex_server.api.body import check_is_json, parse_object, read_body
from codex_server.api.disconnect import while_connected
from codex_server.api.request_context import context_of
from codex_server.api.services import Services
from codex_server.model import Execution, Outcome
from codex_server.service.request_parsing import read_request, to_execution


async def take_execution(request: Request, services: Services) -> tuple[Execution, bytes]:
    """What the body asks for, and the body; one that asks for what cannot be is refused here."""
    content, body = await take_object(request, services)
    return to_execution(read_request(content), services.settings, services.languages), body


async def take_object(request: Request, services: Services) -> tuple[dict[str, object], bytes]:
    """The body's JSON object, and the body."""
    check_is_json(request)
    settings = services.settings
    body = await read_body(request, max_bytes=settings.max_body, seconds=settings.receive_seconds)
    return parse_object(body), body


async def run_execution(request: Request, services: Services, execution: Execution) -> Outcome:
    """Run it, unless the caller leaves before."""
    note_execution(request, execution)
    outcome = await while_connected(request, services.executor.execute(execution))
    note_outcome(request, outcome)
    return outcome


def note_execution(request: Request, execution: Execution) -> None:
    """Put into the request's log line what is to run; code is never logged."""
    context_of(request).log_fields |= {
        "execution_id": execution.id,
        "language": execution.language,
        "code_bytes": len(execution.code.encode()),
        "code_sha256": hashlib.sha256(execution.code.encode()).hexdigest(),
    }


def note_outcome(request: Request, outcome: Outcome) -> None:
    """Put into it what became of that."""
    context_of(request).log_fields |= {
        "outcome": outcome.status.value,
        "exit_code": outcome.exit_code,
        "stdout_bytes": outcome.stdout.total_bytes,
        "stderr_bytes": outcome.stderr.total_bytes,
        "wall_seconds": round(outcome.ending.wall_seconds, 6),
    }
