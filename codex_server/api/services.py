"""What the routes work with: built and closed by the composition root."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from codex_server.access.idempotency import IdempotencyStore
from codex_server.access.ratelimit import RateLimit
from codex_server.access.tokens import Verifier
from codex_server.languages import Languages
from codex_server.nodes.node import ExecutionNode
from codex_server.observe.metrics import Metrics
from codex_server.service.artifacts import Artifacts
from codex_server.service.checkpoints import Checkpoints
from codex_server.service.executions import Executions
from codex_server.service.sessions import Sessions
from codex_server.service.uploads import Uploads
from codex_server.service.workspaces import Workspaces
from codex_server.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that lives as long as the server. ``verifier`` is None where the server runs without tokens."""

    settings: Settings
    languages: Languages
    node: ExecutionNode
    executions: Executions
    artifacts: Artifacts
    uploads: Uploads
    sessions: Sessions
    workspaces: Workspaces
    checkpoints: Checkpoints
    verifier: Verifier | None
    rate_limit: RateLimit
    idempotency: IdempotencyStore
    metrics: Metrics


def services_of(request: Request) -> Services:
    """The services of the app."""
    return cast("Services", request.app.state.services)


async def _services(request: Request) -> Services:
    """Async, because FastAPI takes a thread for each plain function."""
    return services_of(request)


TheServices = Annotated[Services, Depends(_services)]
