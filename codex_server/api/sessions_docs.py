"""What the OpenAPI document says of the routes below ``/sessions``."""

from typing import Any

from starlette.responses import Response

from codex_server.api.executions_docs import EXECUTE_OR_FOLLOW
from codex_server.api.route_docs import BEARER, IN_SESSION, REPLAYED, STREAM, header, ok, problems
from codex_server.api.schemas import InterruptResponse, SessionsPage
from codex_server.service.session_schemas import SessionExecuteResponse, SessionResponse

_SESSION: dict[str, Any] = {
    "session_id": "ses_01k9vj3m8qz5x7c2d4f6g8h0jk",
    "languages": {"python": {"version": "3.11.7", "started": True}, "bash": {"version": "5.2.15", "started": False}},
    "workspace": None,
    "created_at": "2026-11-21T12:00:00.123456Z",
    "expires_at": "2026-11-21T12:15:00.123456Z",
    "limits": {
        "memory_bytes": 536870912,
        "cpu_seconds": 30.0,
        "processes": 64,
        "output_bytes": 65536,
        "file_bytes": 67108864,
    },
}
_REFUSALS = ("unauthenticated", "forbidden", "invalid-request")
_OWN = (*_REFUSALS, "unknown-session", "session-ended")
_GUARDED: dict[str, Any] = {"tags": ["session"], "openapi_extra": {"security": BEARER}}
_REQUESTS = {
    "default": {"summary": "With every default", "value": {}},
    "everything": {
        "summary": "Every field",
        "value": {
            "languages": ["python", "bash"],
            "ttl_seconds": 1800,
            "limits": {"memory_bytes": 268435456},
            "files": [{"path": "in.csv", "content": "1,2", "encoding": "utf-8"}],
            "checkpoint": "chk_01k9vj3m8qz5x7c2d4f6g8h0jk",
        },
    },
}
OPEN: dict[str, Any] = _GUARDED | {
    "operation_id": "openSession",
    "summary": "Open a session",
    "status_code": 201,
    "response_model": SessionResponse,
    "responses": {
        201: ok("The session is open; `Location` is its address", {"session": _SESSION})
        | {"headers": {"Location": header("Its address", f"/sessions/{_SESSION['session_id']}"), **REPLAYED}},
        **problems(
            "malformed-request",
            "unknown-language",
            *_REFUSALS,
            "unknown-checkpoint",
            "request-timeout",
            "idempotency-in-flight",
            "idempotency-lost",
            "too-large",
            "unsupported-media-type",
            "limit-too-loose",
            "illegal-path",
            "idempotency-mismatch",
            "rate-limited",
            "internal",
            "draining",
            "language-unavailable",
            "sandbox-unavailable",
            "sessions-full",
        ),
    },
    "openapi_extra": {
        "security": BEARER,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/SessionRequest"},
                    "examples": _REQUESTS,
                }
            },
        },
    },
}
LIST: dict[str, Any] = _GUARDED | {
    "operation_id": "listSessions",
    "summary": "List sessions",
    "response_model": SessionsPage,
    "responses": {
        200: ok("A page of the caller's open sessions", {"page": {"sessions": [_SESSION], "next": None}}),
        **problems(*_REFUSALS),
    },
}
LOOK: dict[str, Any] = _GUARDED | {
    "operation_id": "lookAtSession",
    "summary": "Look at a session",
    "response_model": SessionResponse,
    "responses": {200: ok("The session", {"session": _SESSION}), **problems(*_OWN)},
}
CLOSE: dict[str, Any] = _GUARDED | {
    "operation_id": "closeSession",
    "summary": "Close a session",
    "status_code": 204,
    "response_class": Response,
    "responses": {204: {"description": "It has ended, and nothing of it is left"}, **problems(*_OWN)},
}
INTERRUPT: dict[str, Any] = _GUARDED | {
    "operation_id": "interruptSession",
    "summary": "Interrupt what runs in a session",
    "response_model": InterruptResponse,
    "responses": {200: ok("Whether anything ran", {"interrupted": {"interrupted": True}}), **problems(*_OWN)},
}
_PROBLEMS = problems(
    "invalid-code",
    *_OWN,
    "request-timeout",
    "session-busy",
    "too-large",
    "unsupported-media-type",
    "rate-limited",
    "sandbox-fault",
    "busy",
)
"""One example for each number: the others are those of ``POST /execute``."""
EXECUTE_IN: dict[str, Any] = EXECUTE_OR_FOLLOW | {
    "operation_id": "executeInSession",
    "summary": "Execute code in a session",
    "tags": ["session"],
    "response_model": SessionExecuteResponse,
    "responses": {
        200: EXECUTE_OR_FOLLOW["responses"][200]
        | ok("The program ran; `status` reports how it went", {"succeeded": IN_SESSION}),
        202: EXECUTE_OR_FOLLOW["responses"][202],
        **_PROBLEMS,
    },
}
STREAM_IN: dict[str, Any] = STREAM | {
    "operation_id": "streamInSession",
    "summary": "Execute code in a session and follow it",
    "tags": ["session"],
    "responses": {200: STREAM["responses"][200], **_PROBLEMS},
}
