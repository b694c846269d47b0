"""The operator's named folders as callers see them: by name, at one glance, and file by file.

Operations on their files run in a session without a program, which is kept for some seconds.
"""

import asyncio
import logging
from collections.abc import Mapping

from codex_server.errors import InvalidRequest, UnknownWorkspace
from codex_server.execution.session import Session
from codex_server.ids import new_id
from codex_server.nodes.node import ExecutionNode
from codex_server.sandboxes.session import Content, NamedWorkspace, SessionPlan
from codex_server.sandboxes.stdin import StandardInput
from codex_server.service.file_space import FileSpace, SeenFiles
from codex_server.service.workspace_schemas import WorkspaceEntry, WorkspaceOverview
from codex_server.settings import Settings

KEPT_SECONDS = 10.0
"""How long the session of a workspace stays after the last operation."""
_MOST_CALLERS = 1000
_AROUND_TEXTS = 20_000
_log = logging.getLogger(__name__)


def named_workspaces(settings: Settings) -> dict[str, NamedWorkspace]:
    """Those that the settings name."""
    return {
        name: NamedWorkspace(name, named.folder, named.read_only) for name, named in settings.workspace_folders.items()
    }


def workspace_for_session(name: str, settings: Settings) -> NamedWorkspace:
    """The one that a request asks for. Raises ``InvalidRequest`` with the names that there are."""
    known = named_workspaces(settings)
    if name not in known:
        raise InvalidRequest(_unknown(name, known) + _remedy(known, "leave `workspace` out"), "/workspace")
    return known[name]


def _unknown(name: str, known: Mapping[str, NamedWorkspace]) -> str:
    return f"this server has no workspace {name[:80]!r}" if known else "this server has no named workspaces"


def _remedy(known: Mapping[str, NamedWorkspace], otherwise: str) -> str:
    return f"; it has {', '.join(sorted(known))}" if known else f"; {otherwise}"


class WorkspaceFiles:
    """Carries out operations in ``workspace``, in a session that is opened when it is needed."""

    def __init__(self, node: ExecutionNode, workspace: NamedWorkspace, settings: Settings) -> None:
        self._node, self._workspace, self._settings = node, workspace, settings
        self._opening = asyncio.Lock()
        self._session: Session | None = None
        self._running = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def operate(
        self, request: Mapping[str, object], content: StandardInput, output: Content
    ) -> Mapping[str, object]:
        """See ``SessionSandbox.operate``."""
        self._running += 1
        if self._timer:
            self._timer.cancel()
            self._timer = None
        try:
            return await (await self._opened()).operate(request, content, output)
        finally:
            self._running -= 1
            if not self._running:
                self._timer = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._let_go)

    async def _opened(self) -> Session:
        async with self._opening:
            if self._session is None or self._session.end:
                plan = SessionPlan(new_id("ses"), self._settings.ceilings, workspace=self._workspace)
                self._session = await self._node.open_session(plan)
            return self._session

    def _let_go(self) -> None:
        session, self._session, self._timer = self._session, None, None
        if session:
            task = asyncio.get_running_loop().create_task(self._end(session))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _end(self, session: Session) -> None:
        try:
            await session.close("nobody used it")
        except Exception:
            _log.exception("the session of a workspace cannot be removed", extra={"workspace": self._workspace.name})

    async def close(self) -> None:
        """End its session; safe to call twice."""
        if self._timer:
            self._timer.cancel()
        self._let_go()
        await asyncio.gather(*self._closing)


class Workspaces:
    """Every folder that the settings name."""

    def __init__(self, node: ExecutionNode, settings: Settings) -> None:
        self._settings = settings
        self._known = named_workspaces(settings)
        self._files = {name: WorkspaceFiles(node, each, settings) for name, each in self._known.items()}
        self._seen: dict[tuple[str, str], SeenFiles] = {}

    def entries(self) -> list[WorkspaceEntry]:
        """All of them, by name. INVARIANT: no path of the host is among it."""
        return [_entry(self._known[name]) for name in sorted(self._known)]

    def space(self, name: str, owner: str) -> FileSpace:
        """Its files, for the caller ``owner``. Raises ``UnknownWorkspace``."""
        settings, files = self._settings, self._found(name)
        while len(self._seen) > _MOST_CALLERS:
            del self._seen[next(iter(self._seen))]
        seen = self._seen.setdefault((name, owner), SeenFiles())
        most = min(settings.max_upload, settings.max_file_size)
        return FileSpace(files, seen, most, max(10_000, settings.max_response - _AROUND_TEXTS))

    async def overview(self, name: str, owner: str) -> WorkspaceOverview:
        """What is in it. Raises ``UnknownWorkspace``."""
        facts = await self.space(name, owner).overview()
        return WorkspaceOverview(**_entry(self._known[name]).model_dump(), **facts.model_dump())

    def _found(self, name: str) -> WorkspaceFiles:
        if name not in self._files:
            raise UnknownWorkspace(
                _unknown(name, self._known)
                + _remedy(self._known, "its operator can add one: codex-server workspace add")
            )
        return self._files[name]

    async def close(self) -> None:
        """End the sessions that are kept."""
        await asyncio.gather(*(files.close() for files in self._files.values()))


def _entry(workspace: NamedWorkspace) -> WorkspaceEntry:
    return WorkspaceEntry(name=workspace.name, mode="read-only" if workspace.read_only else "read-write")
