"""Metrics for Prometheus. Every label comes from a closed set, never from a caller's input."""

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
    """The server's metrics in their own registry; an ``ExecutionObserver`` and a ``SessionObserver``."""

    def __init__(self) -> None:
        self.backend = ""
        """The name of the backend, once it is chosen."""
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
            "codex_guest_cpu_seconds", "CPU time that programs used", ["language"], registry=registry
        )
        self._rejections = Counter(
            "codex_rejections", "Requests that were rejected, by the problem's code", ["reason"], registry=registry
        )
        self._sessions_open = Gauge("codex_sessions_open", "Sessions that are open", registry=registry)
        self._sessions_opened = Counter("codex_sessions_opened", "Sessions that were opened", registry=registry)
        self._sessions_ended = Counter(
            "codex_sessions_ended", "Sessions that ended, by cause", ["reason"], registry=registry
        )
        self._http_seconds = Histogram(
            "codex_http_request_seconds",
            "Time from a request's header to the end of its response",
            ["route", "method", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        Gauge("codex_build_info", "The version, in a label", ["version"], registry=registry).labels(__version__).set(1)

    def watch(self, stats: Callable[[], ExecutorStats]) -> None:
        """Call ``stats`` at each scrape for what runs, waits and is armed."""
        self._registry.register(_StatsCollector(stats))

    def executed(
        self, language: str, status: Status, queue_seconds: float, wall_seconds: float, cpu_seconds: float | None
    ) -> None:
        """Record an execution that ended; ``language`` is a runner's name, never the caller's text."""
        self._executions.labels(language, self.backend, status.value).inc()
        self._execution_seconds.labels(language).observe(wall_seconds)
        self._phase_seconds.labels("queue").observe(queue_seconds)
        self._phase_seconds.labels("run").observe(wall_seconds)
        self._cpu_seconds.labels(language).inc(max(0.0, cpu_seconds or 0.0))

    def rejected(self, reason: str) -> None:
        """Record a rejected request; ``reason`` is the slug of a problem."""
        self._rejections.labels(reason).inc()

    def session_opened(self) -> None:
        """Record a session that was opened."""
        self._sessions_opened.inc()
        self._sessions_open.inc()

    def session_ended(self, cause: str) -> None:
        """Record a session that has ended; ``cause`` is from a closed set (``EndCause``)."""
        self._sessions_ended.labels(cause).inc()
        self._sessions_open.dec()

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Record a response; ``route`` is a template such as ``/execute``, or ``unmatched``."""
        self._http_seconds.labels(route, method if method in _METHODS else "other", str(status)).observe(seconds)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class _StatsCollector(Collector):
    def __init__(self, stats: Callable[[], ExecutorStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        yield GaugeMetricFamily("codex_executions_running", "Executions in a sandbox", value=stats.running)
        yield GaugeMetricFamily("codex_queue_depth", "Executions that wait for a place", value=stats.queued)
        pools = GaugeMetricFamily("codex_pool_sandboxes", "Sandboxes that are armed", labels=["pool", "state"])
        for pool, count in sorted(stats.armed.items()):
            pools.add_metric([pool, "armed"], count)
        yield pools
