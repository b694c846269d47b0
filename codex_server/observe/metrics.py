"""Numbers for Prometheus. Every label comes from a closed set: nothing that a caller chooses becomes one."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from codex_server import __version__
from codex_server.model import ExecutorStats, Status

CONTENT_TYPE = CONTENT_TYPE_LATEST
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The server's numbers in a registry of its own; it takes the executor's reports as they come."""

    def __init__(self) -> None:
        self.backend = ""
        """The name of the one that runs the executions, once it is chosen."""
        self._registry = registry = CollectorRegistry()
        self._executions = Counter(
            "codex_executions", "Executions that ended", ["language", "backend", "status"], registry=registry
        )
        self._execution_seconds = Histogram(
            "codex_execution_seconds", "Wall time of programs", ["language"], buckets=_SECONDS, registry=registry
        )
        self._phase_seconds = Histogram(
            "codex_phase_seconds", "Time by phase of an execution", ["phase"], buckets=_SECONDS, registry=registry
        )
        self._cpu_seconds = Counter(
            "codex_guest_cpu_seconds", "Processor time that programs used", ["language"], registry=registry
        )
        self._rejections = Counter(
            "codex_rejections", "Requests that were refused, by the problem's code", ["reason"], registry=registry
        )
        self._http_seconds = Histogram(
            "codex_http_request_seconds",
            "Time from a request's header to the end of its answer",
            ["route", "method", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        Gauge("codex_build_info", "The version, in a label", ["version"], registry=registry).labels(__version__).set(1)

    def watch(self, stats: Callable[[], ExecutorStats]) -> None:
        """Ask ``stats`` at each scrape for what runs, waits and stands ready."""
        self._registry.register(_CensusCollector(stats))

    def executed(
        self, language: str, status: Status, queue_seconds: float, wall_seconds: float, cpu_seconds: float | None
    ) -> None:
        """An execution ended; ``language`` is a runner's name, never what the caller wrote."""
        self._executions.labels(language, self.backend, status.value).inc()
        self._execution_seconds.labels(language).observe(wall_seconds)
        self._phase_seconds.labels("queue").observe(queue_seconds)
        self._phase_seconds.labels("run").observe(wall_seconds)
        self._cpu_seconds.labels(language).inc(max(0.0, cpu_seconds or 0.0))

    def rejected(self, reason: str) -> None:
        """A request was refused; ``reason`` is the slug of a problem."""
        self._rejections.labels(reason).inc()

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is a template such as ``/execute``, or ``unmatched``."""
        self._http_seconds.labels(route, method if method in _METHODS else "other", str(status)).observe(seconds)

    def exposition(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)


class _CensusCollector(Collector):
    def __init__(self, stats: Callable[[], ExecutorStats]) -> None:
        self._census = stats

    def collect(self) -> Iterable[Metric]:
        stats = self._census()
        yield GaugeMetricFamily("codex_executions_running", "Executions in a sandbox", value=stats.running)
        yield GaugeMetricFamily("codex_queue_depth", "Executions that wait for a place", value=stats.queued)
        pools = GaugeMetricFamily("codex_pool_sandboxes", "Sandboxes that stand ready", labels=["pool", "state"])
        for pool, count in sorted(stats.armed.items()):
            pools.add_metric([pool, "armed"], count)
        yield pools
