"""What the OpenAPI document says of the routes below ``/workspaces``."""

from collections.abc import Mapping
from typing import Any

from codex_server.api.problems import MEDIA_TYPE
from codex_server.api.route_docs import BEARER, ok, problems
from codex_server.api.session_files_docs import DOCS as SESSION_FILES
from codex_server.service.workspace_schemas import WorkspaceOverview, WorkspacesResponse

_ENTRY: dict[str, Any] = {"name": "notes", "mode": "read-write"}
_OVERVIEW: dict[str, Any] = _ENTRY | {
    "files": 2,
    "truncated": False,
    "languages": [{"name": "Python", "files": 1, "bytes": 120}],
    "guides": [{"path": "README.md", "head": "# Notes\n", "truncated": False}],
    "git": {
        "branch": "main",
        "commit": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
        "changed": [{"path": "a.py", "change": "modified"}],
        "truncated": False,
    },
    "tree": ["README.md", "a.py"],
    "tree_truncated": False,
}
_GUARDED: dict[str, Any] = {"tags": ["workspace"], "openapi_extra": {"security": BEARER}}
_REFUSALS = ("unauthenticated", "forbidden")
LIST: dict[str, Any] = _GUARDED | {
    "operation_id": "listWorkspaces",
    "summary": "List the folders that sessions may work in",
    "response_model": WorkspacesResponse,
    "responses": {200: ok("Their names", {"workspaces": {"workspaces": [_ENTRY]}}), **problems(*_REFUSALS)},
}
LOOK: dict[str, Any] = _GUARDED | {
    "operation_id": "lookAtWorkspace",
    "summary": "Look at a workspace",
    "response_model": WorkspaceOverview,
    "responses": {
        200: ok("What is in it", {"overview": _OVERVIEW}),
        **problems(
            *_REFUSALS, "invalid-request", "unknown-workspace", "rate-limited", "sandbox-unavailable", "sandbox-fault"
        ),
    },
}


def _of_a_workspace(docs: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the same operation on the files of a session, said of a workspace."""
    slugs: dict[str, None] = {"unknown-workspace": None}
    results = {}
    for status, response in docs["responses"].items():
        refusals = response.get("content", {}).get(MEDIA_TYPE)
        if refusals is None:
            results[status] = response
        else:
            slugs |= dict.fromkeys(refusals["examples"])
    known = [slug for slug in slugs if slug not in ("unknown-session", "session-ended")]
    return {
        **docs,
        "tags": ["workspace"],
        "operation_id": docs["operation_id"].replace("Session", "Workspace"),
        "summary": docs["summary"].replace("a session", "a workspace"),
        "responses": {**results, **problems(*known)},
    }


FILES: Mapping[str, dict[str, Any]] = {docs["operation_id"]: _of_a_workspace(docs) for docs in SESSION_FILES.values()}
"""By the operation's name for a session."""
