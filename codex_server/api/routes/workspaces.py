"""``/workspaces``: the operator's named folders; their files are worked on as those of a session are."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.routing import APIRoute

from codex_server.api.callers import CountedCaller, ExecutingCaller
from codex_server.api.routes.session_files import router as session_files
from codex_server.api.services import TheServices
from codex_server.api.workspaces_docs import FILES, LIST, LOOK
from codex_server.service.file_space import FileSpace
from codex_server.service.workspace_schemas import WorkspaceOverview, WorkspacesResponse

router = APIRouter()
WorkspaceName = Annotated[str, Path(max_length=80, description="Name of a workspace")]


@router.get("/workspaces", **LIST)
async def list_workspaces(caller: ExecutingCaller, services: TheServices) -> WorkspacesResponse:
    """The folders that the operator has named, for `workspace` of POST /sessions."""
    return WorkspacesResponse(workspaces=services.workspaces.entries())


@router.get("/workspaces/{name}", **LOOK)
async def look_at_workspace(name: WorkspaceName, caller: CountedCaller, services: TheServices) -> WorkspaceOverview:
    """What is in a workspace, at one glance: languages, what it says of itself, its git state, its tree."""
    return await services.workspaces.overview(name, caller.key)


async def _in_workspace(request: Request, name: WorkspaceName, caller: ExecutingCaller, services: TheServices) -> None:
    """A dependency of the routes below: the files are those of a workspace."""

    async def find() -> FileSpace:
        return services.workspaces.space(name, caller.key)

    request.state.find_space = find


def _files_router() -> APIRouter:
    """Each route of the files of a session, below ``/workspaces``."""
    files = APIRouter(dependencies=[Depends(_in_workspace)])
    for route in session_files.routes:
        if isinstance(route, APIRoute) and route.operation_id:
            path = route.path.replace("/sessions/{session_id}", "/workspaces/{name}")
            own = [each for each in route.dependencies if each not in session_files.dependencies]
            files.add_api_route(
                path, route.endpoint, methods=list(route.methods or ()), dependencies=own, **FILES[route.operation_id]
            )
    return files


router.include_router(_files_router())
