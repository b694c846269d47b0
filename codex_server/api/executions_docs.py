"""What the OpenAPI document says of the routes below ``/executions``."""

from typing import Any

from codex_server.api.route_docs import BEARER, EXECUTE, EXECUTE_RESPONSE, header, ok, problems
from codex_server.api.schemas import EndedExecution, EndedSessionExecution, ExecutionProgress, ExecutionsPage

RUNNING: dict[str, Any] = {
    "execution_id": EXECUTE_RESPONSE["execution_id"],
    "status": "running",
    "stdout": "step 1\n",
    "stderr": "",
    "next": 2,
}
_ENTRY: dict[str, Any] = {
    "execution_id": EXECUTE_RESPONSE["execution_id"],
    "status": "succeeded",
    "language": "python",
    "submitted_at": EXECUTE_RESPONSE["timestamp"],
    "background": True,
    "execution_time": 0.004,
    "cpu_seconds": 0.003,
    "exit_code": 0,
    "signal": None,
    "code_bytes": 20,
    "code_sha256": "ea1efb75ee9a34a1dd4b4e2ae3e1e6a9c8a8fb0e1c9a7e5d7c07b6b1f8d37c21",
    "stdout_bytes": 12,
    "stderr_bytes": 0,
    "caller": "default",
    "user_agent": "curl/8.9",
    "request_id": "3f1c9a0e5b7d4c21",
    "session_id": None,
    "code": None,
    "stdout": None,
    "stderr": None,
}
EXECUTE_OR_FOLLOW: dict[str, Any] = EXECUTE | {
    "responses": EXECUTE["responses"]
    | {
        202: ok("It runs in the background; `Location` is its address", {"running": RUNNING})
        | {
            "model": ExecutionProgress,
            "headers": {"Location": header("Where to follow it", f"/executions/{RUNNING['execution_id']}")},
        }
    }
}
"""``POST /execute``, whose program may outlive the call."""
_REFUSALS = ("unauthenticated", "forbidden", "invalid-request")
_OPEN: dict[str, Any] = {"tags": ["execution"], "openapi_extra": {"security": BEARER}}

LIST: dict[str, Any] = _OPEN | {
    "operation_id": "listExecutions",
    "summary": "List executions",
    "response_model": ExecutionsPage,
    "responses": {
        200: ok("A page of the caller's executions", {"page": {"executions": [_ENTRY], "next": None}}),
        **problems(*_REFUSALS),
    },
}
FOLLOW: dict[str, Any] = _OPEN | {
    "operation_id": "followExecution",
    "summary": "Follow an execution",
    "response_model": ExecutionProgress | EndedExecution | EndedSessionExecution,
    "responses": {
        200: ok(
            "What is new, as soon as anything is",
            {"running": RUNNING, "ended": EXECUTE_RESPONSE | {"next": 3}},
        ),
        **problems(*_REFUSALS, "unknown-execution", "outcome-gone"),
    },
}
CANCEL: dict[str, Any] = FOLLOW | {"operation_id": "cancelExecution", "summary": "Cancel an execution"}
FEED: dict[str, Any] = _OPEN | {
    "operation_id": "feedExecution",
    "summary": "Send input to a program",
    "responses": {
        204: {"description": "It is on its way to the program"},
        **problems(
            "malformed-request",
            *_REFUSALS,
            "unknown-execution",
            "request-timeout",
            "input-refused",
            "too-large",
            "unsupported-media-type",
        ),
    },
    "openapi_extra": {
        "security": BEARER,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/InputRequest"},
                    "examples": {"text": {"value": {"text": "42\n"}}, "end": {"value": {"eof": True}}},
                }
            },
        },
    },
}
