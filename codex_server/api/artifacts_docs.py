"""What the OpenAPI document says of the routes for files."""

from typing import Any

from starlette.responses import FileResponse, Response

from codex_server.api.route_docs import BEARER, ok, problems
from codex_server.api.schemas import FilesPage, UploadedFile

FETCH: dict[str, Any] = {
    "operation_id": "fetchArtifact",
    "summary": "Fetch a file",
    "tags": ["execution"],
    "response_class": FileResponse,
    "responses": {
        200: {
            "description": "The file, as a download. `Range` gets a part of it (206, or 416 where there is none), "
            "`If-None-Match` with its `ETag` a 304 without a body",
            "content": {"*/*": {"schema": {"type": "string", "format": "binary"}, "example": "year,rain\n2026,812\n"}},
        },
        **problems("unknown-artifact", "artifact-gone", "range-not-satisfiable", "invalid-request"),
    },
}
_REFUSALS = ("unauthenticated", "forbidden", "invalid-request")
_OPEN: dict[str, Any] = {"tags": ["execution"], "openapi_extra": {"security": BEARER}}
_FILE = {
    "file_id": "fil_01k9vj3m8qz5x7c2d4f6g8h0jk",
    "name": "data.csv",
    "size": 20971520,
    "media_type": "text/csv",
    "expires_at": "2026-11-21T13:00:00Z",
}
UPLOAD: dict[str, Any] = _OPEN | {
    "operation_id": "uploadFile",
    "summary": "Upload a file",
    "status_code": 201,
    "response_model": UploadedFile,
    "responses": {
        201: ok("The file is kept", {"file": _FILE}),
        **problems(
            *_REFUSALS, "request-timeout", "too-large", "unsupported-media-type", "rate-limited", "busy", "storage-full"
        ),
    },
    "openapi_extra": {
        "security": BEARER,
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {
                    "schema": {"type": "string", "format": "binary"},
                    "example": "year,rain\n2026,812\n",
                }
            },
        },
    },
}
LIST_FILES: dict[str, Any] = _OPEN | {
    "operation_id": "listFiles",
    "summary": "List uploaded files",
    "response_model": FilesPage,
    "responses": {
        200: ok("A page of the caller's files", {"page": {"files": [_FILE], "next": None}}),
        **problems(*_REFUSALS),
    },
}
REMOVE_FILE: dict[str, Any] = _OPEN | {
    "operation_id": "removeFile",
    "summary": "Remove an uploaded file",
    "status_code": 204,
    "response_class": Response,
    "responses": {204: {"description": "It is removed"}, **problems(*_REFUSALS, "unknown-file")},
}
