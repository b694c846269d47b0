"""``GET /``: what this is, and where to go."""

from fastapi import APIRouter

from codex_server import __version__
from codex_server.api.route_docs import HOME
from codex_server.api.schemas import HomeResponse

router = APIRouter()
LINKS = {
    "execute": "/execute",
    "stream": "/execute/stream",
    "batch": "/execute/batch",
    "executions": "/executions",
    "execution": "/executions/{execution_id}",
    "input": "/executions/{execution_id}/input",
    "sessions": "/sessions",
    "session": "/sessions/{session_id}",
    "session_execute": "/sessions/{session_id}/execute",
    "session_stream": "/sessions/{session_id}/execute/stream",
    "session_interrupt": "/sessions/{session_id}/interrupt",
    "session_shells": "/sessions/{session_id}/shells",
    "session_shell": "/sessions/{session_id}/shells/{name}",
    "session_files": "/sessions/{session_id}/files",
    "session_file": "/sessions/{session_id}/files/{path}",
    "workspaces": "/workspaces",
    "workspace": "/workspaces/{name}",
    "workspace_files": "/workspaces/{name}/files",
    "workspace_file": "/workspaces/{name}/files/{path}",
    "session_checkpoints": "/sessions/{session_id}/checkpoints",
    "checkpoints": "/checkpoints",
    "checkpoint": "/checkpoints/{checkpoint_id}",
    "files": "/files",
    "file": "/files/{file_id}",
    "artifact": "/artifacts/{artifact_id}",
    "languages": "/languages",
    "health": "/health",
    "liveness": "/livez",
    "readiness": "/readyz",
    "metrics": "/metrics",
    "documentation": "/docs",
    "openapi": "/openapi.json",
    "actions": "/actions/openapi.json",
    "problems": "/problems",
}


@router.get("/", **HOME)
async def home() -> HomeResponse:
    """Name, version and the path of each route."""
    return HomeResponse(name="Codex Server", version=__version__, links=LINKS)
