"""``GET /health``, ``/livez``, ``/readyz``: how the server is, for people and for whoever supervises it."""

from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter, Response

from codex_server import __version__
from codex_server.api.route_docs import HEALTH, LIVE, READY
from codex_server.api.schemas import LiveAnswer, ReadyAnswer
from codex_server.api.services import Services, TheServices
from codex_server.service.schemas import HealthAnswer

router = APIRouter()


@router.get("/health", **HEALTH)
async def health_check(services: TheServices) -> HealthAnswer:
    """How the server is, what it runs and how strongly it keeps programs in."""
    return HealthAnswer(
        status=status_of(services),
        version=__version__,
        languages=[language.name for language in services.languages if language.available],
        isolation=isolation_of(services),
        timestamp=datetime.now(UTC),
    )


@router.get("/livez", **LIVE)
async def liveness() -> LiveAnswer:
    """Whether the process answers. It looks at nothing else."""
    return LiveAnswer()


@router.get("/readyz", **READY)
async def readiness(services: TheServices, response: Response) -> ReadyAnswer:
    """Whether every pool got its first sandbox and can get more: 503 with the reasons while not, or while stopping."""
    reasons = services.executor.not_ready()
    stats = services.executor.stats()
    response.headers["Cache-Control"] = "no-store"
    if reasons:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return ReadyAnswer(
        status="not_ready" if reasons else "ready",
        reasons=reasons,
        isolation=isolation_of(services),
        running=stats.running,
        queued=stats.queued,
        armed=dict(stats.armed),
    )


def status_of(services: Services) -> Literal["healthy", "degraded", "draining"]:
    """In a word."""
    if services.executor.draining:
        return "draining"
    return "degraded" if services.executor.not_ready() else "healthy"


def isolation_of(services: Services) -> Literal["confined", "namespaces", "full"]:
    """The level that the backend saw work."""
    return str(services.backend.isolation.level)  # type: ignore[return-value]  # the enum's names are these words
