"""``GET /health``, ``/livez``, ``/readyz``: how the server is, for people and for whoever supervises it."""

from fastapi import APIRouter, Request, Response

from codex_server.api.callers import AnyCaller
from codex_server.api.route_docs import HEALTH, LIVE, READY
from codex_server.api.running import operation_context
from codex_server.api.schemas import LiveResponse, ReadyResponse
from codex_server.api.services import TheServices
from codex_server.operations.health_check import HEALTH_CHECK, isolation_word
from codex_server.operations.operation import NoInput
from codex_server.service.schemas import HealthResponse

router = APIRouter()


@router.get("/health", **HEALTH)
async def health_check(request: Request, caller: AnyCaller, services: TheServices) -> HealthResponse:
    """How the server is, what it runs and how strongly it keeps programs in."""
    return await HEALTH_CHECK(caller, NoInput(), operation_context(request, services))


@router.get("/livez", **LIVE)
async def liveness() -> LiveResponse:
    """Whether the process responds. It looks at nothing else."""
    return LiveResponse()


@router.get("/readyz", **READY)
async def readiness(services: TheServices, response: Response) -> ReadyResponse:
    """Whether every pool got its first sandbox and can get more: 503 with the reasons while not, or while stopping."""
    reasons, capacity = services.node.problems(), services.node.capacity()
    response.headers["Cache-Control"] = "no-store"
    if reasons:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return ReadyResponse(
        status="not_ready" if reasons else "ready",
        reasons=list(reasons),
        isolation=isolation_word(capacity),
        running=capacity.running,
        queued=capacity.queued,
        armed=dict(capacity.armed),
    )
