"""The state of an execution as JSON: what is new, and the whole response once it has ended."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from codex_server.api.problems import kept_problem
from codex_server.api.request_context import context_of
from codex_server.service.executions import Progress


def progress_body(request: Request, progress: Progress) -> Mapping[str, Any]:
    """Of one that has ended every field of the response of ``/execute``, of any other how far it is."""
    if progress.response is not None:
        return {**progress.response.model_dump(mode="json"), "next": progress.next}
    body: dict[str, Any] = {
        "execution_id": progress.execution_id,
        "status": progress.status,
        "stdout": progress.stdout,
        "stderr": progress.stderr,
        "next": progress.next,
    }
    if kept := progress.problem:
        instance, base_url = context_of(request).request_id, request.app.state.problem_base
        body["problem"] = kept_problem(kept.slug, kept.detail, instance=instance, base_url=base_url)
    return body


def progress_response(request: Request, progress: Progress) -> Response:
    """The same as a response."""
    return JSONResponse(progress_body(request, progress), headers={"Cache-Control": "no-store"})
