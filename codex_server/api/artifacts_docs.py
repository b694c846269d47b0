"""What the OpenAPI document says of the routes for files."""

from typing import Any

from starlette.responses import FileResponse

from codex_server.api.route_docs import problems

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
        **problems("unknown-artifact", "artifact-gone", "invalid-request"),
    },
}
