"""From an exception that leaves a route to the problem that the client reads."""

import json
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import compile_path

from codex_server import errors
from codex_server.api.problems import kind_of_status, problem, public_detail, status_of
from codex_server.api.request_context import context_of
from codex_server.file_errors import FileRefused
from codex_server.service.fields import FieldError, FieldsInvalid

CLIENT_LEFT = 499
"""The number in the log for a request whose client left; nobody reads the response."""
_CURIOSITY = frozenset({404, 405})
"""Not worth counting as a refusal."""
_log = logging.getLogger("codex_server.http")


def install_exception_handlers(app: FastAPI) -> None:
    """Let every exception of a route become a problem."""
    app.add_exception_handler(errors.CodexError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_http)
    app.add_exception_handler(RequestValidationError, _refuse_parameters)
    app.add_exception_handler(ClientDisconnect, _note_disconnect)


def internal_problem(request: Request) -> Response:
    """The response to a fault of ours: nothing of its cause, but the id to find it by."""
    return _http_problem(request, 500, "the server failed; the log has the cause under this request's id")


async def problem_details(request: Request, error: Exception) -> dict[str, Any]:
    """The problem that ends a stream: what ``error`` had been as a response."""
    known = isinstance(error, errors.CodexError)
    response = await _refuse(request, error) if known else internal_problem(request)
    if not known:
        _log.error("a run failed", exc_info=error)
    details: dict[str, Any] = json.loads(bytes(response.body))
    return details


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.CodexError)  # noqa: S101 - the signature is Starlette's
    if isinstance(error, errors.StartupError):  # the store was damaged while the server runs
        _log.error("the server lost what it needs", extra={"cause": error.detail})
        return internal_problem(request)
    status = status_of(type(error))
    context = context_of(request)
    context.log_fields["problem"] = error.slug
    if status >= 500:
        _log.warning(
            "refused", extra={"problem": error.slug, "cause": error.detail}, exc_info=error if status == 500 else None
        )
    request.app.state.metrics.rejected(error.slug)
    return problem(
        error.slug,
        status,
        error.title,
        _detail(error),
        instance=context.request_id,
        base_url=request.app.state.problem_base,
        field_errors=_field_errors(error),
        facts=context.problem_facts | (error.facts if isinstance(error, FileRefused) else {}),
        headers=_headers(error),
    )


def _detail(error: errors.CodexError) -> str:
    """What a client may read of ``error``, and which part of the request it speaks of."""
    detail = public_detail(error)
    return f"{error.pointer}: {detail}" if isinstance(error, errors.InvalidRequest) and error.pointer else detail


def _field_errors(error: errors.CodexError) -> Sequence[FieldError]:
    if isinstance(error, FieldsInvalid):
        return error.field_errors
    if isinstance(error, errors.InvalidRequest) and error.pointer:
        return [FieldError(error.pointer, error.detail)]
    return []


def _headers(error: errors.CodexError) -> dict[str, str]:
    headers = {}
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.RateLimited | errors.QuotaExceeded | errors.Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, errors.IdempotencyInFlight | errors.SessionBusy):
        headers["Retry-After"] = "1"
    return headers


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the signature is Starlette's
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if error.status_code == 404 and request.method == "OPTIONS" and request.scope["path"] == "*":
        return Response(status_code=204, headers={"Allow": "GET, HEAD, OPTIONS, POST"})
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path[:200]}; GET / lists what there is"
    if error.status_code == 405:
        headers.pop("allow", None)
        headers["Allow"] = allow = _allowed(request)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        detail = f"{request.url.path[:200]} takes {allow}"
    return _http_problem(request, error.status_code, detail, headers)


def _http_problem(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    kind, context = kind_of_status(status), context_of(request)
    context.log_fields["problem"] = kind.slug
    if status not in _CURIOSITY:
        request.app.state.metrics.rejected(kind.slug)
    return problem(
        kind.slug,
        status,
        kind.title,
        detail,
        instance=context.request_id,
        base_url=request.app.state.problem_base,
        facts=context.problem_facts,
        headers=headers,
    )


def _allowed(request: Request) -> str:
    """What the address takes: several routes may share it."""
    names = {"OPTIONS"}
    for route in iter_route_contexts(request.app.routes):
        if route.path and compile_path(route.path)[0].match(request.url.path):
            names |= set(route.methods or ())
    if "GET" in names:
        names.add("HEAD")
    return ", ".join(sorted(names))


async def _refuse_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the signature is Starlette's
    field_errors = [FieldError("/" + "/".join(map(str, fault["loc"])), str(fault["msg"])) for fault in error.errors()]
    return await _refuse(request, FieldsInvalid(field_errors))


async def _note_disconnect(request: Request, _error: Exception) -> Response:
    context_of(request).log_fields["problem"] = "client-left"
    return Response(status_code=CLIENT_LEFT)
