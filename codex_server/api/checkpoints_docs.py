"""What the OpenAPI document says of the routes for checkpoints."""

from typing import Any

from starlette.responses import Response

from codex_server.api.route_docs import BEARER, header, ok, problems
from codex_server.api.schemas import CheckpointsPage
from codex_server.service.session_schemas import CheckpointResponse

_CHECKPOINT: dict[str, Any] = {
    "checkpoint_id": "chk_01k9vj3m8qz5x7c2d4f6g8h0jk",
    "description": "cleaned data",
    "created_at": "2026-11-21T12:00:00Z",
    "files": [{"path": "clean.csv", "size": 48210}],
    "expires_at": "2026-11-28T12:00:00Z",
}
_REFUSALS = ("unauthenticated", "forbidden", "invalid-request")
_GUARDED: dict[str, Any] = {"tags": ["session"], "openapi_extra": {"security": BEARER}}
MAKE: dict[str, Any] = _GUARDED | {
    "operation_id": "makeCheckpoint",
    "summary": "Make a checkpoint of a session",
    "status_code": 201,
    "response_model": CheckpointResponse,
    "responses": {
        201: ok("The files are kept; `Location` is their address", {"checkpoint": _CHECKPOINT})
        | {"headers": {"Location": header("Its address", f"/checkpoints/{_CHECKPOINT['checkpoint_id']}")}},
        **problems(
            "malformed-request",
            *_REFUSALS,
            "unknown-session",
            "session-ended",
            "session-busy",
            "request-timeout",
            "too-large",
            "unsupported-media-type",
            "rate-limited",
            "sandbox-fault",
            "sandbox-unavailable",
            "storage-full",
        ),
    },
    "openapi_extra": {
        "security": BEARER,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/CheckpointRequest"},
                    "examples": {"some": {"value": {"description": "cleaned data", "globs": ["*.csv"]}}},
                }
            },
        },
    },
}
LIST: dict[str, Any] = _GUARDED | {
    "operation_id": "listCheckpoints",
    "summary": "List checkpoints",
    "response_model": CheckpointsPage,
    "responses": {
        200: ok("A page of the caller's checkpoints", {"page": {"checkpoints": [_CHECKPOINT], "next": None}}),
        **problems(*_REFUSALS),
    },
}
LOOK: dict[str, Any] = _GUARDED | {
    "operation_id": "lookAtCheckpoint",
    "summary": "Look at a checkpoint",
    "response_model": CheckpointResponse,
    "responses": {
        200: ok("The checkpoint", {"checkpoint": _CHECKPOINT}),
        **problems(*_REFUSALS, "unknown-checkpoint"),
    },
}
REMOVE: dict[str, Any] = _GUARDED | {
    "operation_id": "removeCheckpoint",
    "summary": "Remove a checkpoint",
    "status_code": 204,
    "response_class": Response,
    "responses": {204: {"description": "It is removed"}, **problems(*_REFUSALS, "unknown-checkpoint")},
}
