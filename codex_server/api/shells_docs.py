"""What the OpenAPI document says of the shells of a session."""

from typing import Any

from starlette.responses import Response

from codex_server.api.route_docs import BEARER, ok, problems
from codex_server.service.shell_schemas import ShellResponse, ShellsResponse

_OUTPUT: dict[str, Any] = {
    "output": "$ ls\ndata.csv\n$ ",
    "missed_bytes": 0,
    "running": False,
    "running_for_seconds": None,
    "exit_code": 0,
    "cwd": "/workspace",
    "full_screen": False,
    "ended": False,
    "next": 214,
}
_OWN = ("unauthenticated", "forbidden", "invalid-request", "unknown-session", "session-ended")
_GUARDED: dict[str, Any] = {"tags": ["session"], "openapi_extra": {"security": BEARER}}

LIST: dict[str, Any] = _GUARDED | {
    "operation_id": "listShells",
    "summary": "List the shells of a session",
    "response_model": ShellsResponse,
    "responses": {
        200: ok("The shells", {"shells": {"shells": [{"name": "main", "running": False, "cwd": "/workspace"}]}}),
        **problems(*_OWN),
    },
}
CALL: dict[str, Any] = _GUARDED | {
    "operation_id": "callShell",
    "summary": "Type at a shell of a session",
    "response_model": ShellResponse,
    "responses": {
        200: ok("What is new at the terminal", {"output": _OUTPUT}),
        **problems(
            *_OWN,
            "malformed-request",
            "request-timeout",
            "too-large",
            "unsupported-media-type",
            "input-refused",
            "rate-limited",
            "internal",
            "sandbox-unavailable",
        ),
    },
    "openapi_extra": {
        "security": BEARER,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/ShellRequest"},
                    "examples": {
                        "command": {"summary": "A command", "value": {"command": "ls", "wait_seconds": 5}},
                        "keys": {"summary": "Interrupt what runs", "value": {"keys": ["Ctrl-C"]}},
                    },
                }
            },
        },
    },
}
CLOSE: dict[str, Any] = _GUARDED | {
    "operation_id": "closeShell",
    "summary": "Close a shell of a session",
    "status_code": 204,
    "response_class": Response,
    "responses": {204: {"description": "It has ended"}, **problems(*_OWN, "unknown-shell")},
}
