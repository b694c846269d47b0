"""What a handler works with: where programs run, and what the door needs of the response."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from codex_server.execution.run import Run
from codex_server.languages import Languages
from codex_server.model import Caller, Execution
from codex_server.nodes.node import ExecutionNode
from codex_server.service.cells import Cell, cell_of, check_without_session
from codex_server.service.executions import Executions, Origin
from codex_server.service.quota import Standing
from codex_server.service.schemas import ExecuteRequest
from codex_server.service.sessions import Sessions
from codex_server.service.truncation import WHOLE, Form
from codex_server.service.uploads import Uploads, names_upload
from codex_server.settings import Settings


def ignore(_: object) -> None:
    """A door that follows no run, and reports no quota."""


@dataclass(frozen=True, slots=True)
class Context:
    """One call's surroundings. The response must have at most ``max_chars`` characters when written as ``form``.

    ``follow`` receives a run as soon as there is one, before anything of it has begun: its events are the progress.
    ``report_quota`` receives where the caller stands, where a quota is set.
    """

    node: ExecutionNode
    executions: Executions
    uploads: Uploads
    sessions: Sessions
    settings: Settings
    languages: Languages
    max_chars: int
    form: Form = WHOLE
    follow: Callable[[Run], None] = ignore
    report_quota: Callable[[Standing], None] = ignore
    request_id: str = ""
    user_agent: str | None = None

    async def submit(self, execution: Execution, caller: Caller, cell: Cell | None = None) -> Run:
        """The run of ``execution``, in a session as its ``cell``. Raises what the quota and the node refuse."""
        origin = Origin(caller, self.request_id, self.user_agent, self.max_chars)
        run = await self.executions.submit(execution, origin, self.report_quota, cell)
        self.follow(run)
        return run

    async def cell(self, request: ExecuteRequest, caller: Caller) -> Cell | None:
        """The place of ``request`` in its session, if it asks for one. Raises ``UnknownSession``, ``SessionEnded``."""
        if not request.in_session:
            check_without_session(request)
            return None
        return cell_of(request, await self.sessions.find(request.session, caller.key))

    async def uploaded(self, request: ExecuteRequest, caller: Caller) -> Mapping[str, bytes]:
        """The content of each uploaded file that ``request`` names. Raises ``InvalidRequest``."""
        if not any(map(names_upload, request.files)):
            return {}
        return await self.uploads.contents(request.files, caller.key, self.settings.max_workspace)
