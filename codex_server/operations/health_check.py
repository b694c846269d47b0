"""``health_check``: how the server is."""

from datetime import UTC, datetime
from typing import Literal

from codex_server import __version__
from codex_server.model import Caller
from codex_server.nodes.node import Capacity, ExecutionNode
from codex_server.operations.context import Context
from codex_server.operations.operation import Effect, NoInput, Operation
from codex_server.service.schemas import HealthResponse


async def _check(caller: Caller, request: NoInput, context: Context) -> HealthResponse:
    capacity = context.node.capacity()
    return HealthResponse(
        status=_status(context.node, capacity),
        version=__version__,
        languages=[language.name for language in context.node.languages() if language.available],
        isolation=isolation_word(capacity),
        timestamp=datetime.now(UTC),
    )


def _status(node: ExecutionNode, capacity: Capacity) -> Literal["healthy", "degraded", "draining"]:
    if capacity.draining:
        return "draining"
    return "degraded" if node.problems() else "healthy"


def isolation_word(capacity: Capacity) -> Literal["confined", "namespaces", "full"]:
    """How strongly programs are kept in."""
    return str(capacity.isolation)  # type: ignore[return-value]  # the enum's names are these words


HEALTH_CHECK = Operation(
    name="health_check",
    title="Report how the server is",
    summary="Returns whether the server can run programs now, and how strongly it isolates them.",
    effect=Effect.READ,
    input=NoInput,
    output=HealthResponse,
    handler=_check,
)
