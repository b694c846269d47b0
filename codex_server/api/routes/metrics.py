"""``GET /metrics``: numbers for Prometheus."""

from fastapi import APIRouter
from starlette.responses import Response

from codex_server.api.callers import MetricsCaller
from codex_server.api.route_docs import METRICS
from codex_server.api.services import TheServices
from codex_server.observe.metrics import CONTENT_TYPE

router = APIRouter()


@router.get("/metrics", **METRICS)
async def read_metrics(_caller: MetricsCaller, services: TheServices) -> Response:
    """Counters, gauges and histograms in Prometheus's text format."""
    return Response(services.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
