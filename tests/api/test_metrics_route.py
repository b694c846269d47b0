"""``GET /metrics``: what Prometheus is told, and what never becomes a label."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.anyio


async def samples(door):
    answer = await door.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(samples, name, **labels):
    return samples[name, tuple(sorted(labels.items()))]


async def test_executions_are_counted_by_language_and_status(door):
    await door.execute("print 1")
    await door.execute("exit 1", language="js")
    await door.execute("cpu 2\nexit 1", language="node")
    seen = await samples(door)
    assert value(seen, "codex_executions_total", language="python", backend="fake", status="succeeded") == 1
    assert value(seen, "codex_executions_total", language="javascript", backend="fake", status="failed") == 2
    assert value(seen, "codex_guest_cpu_seconds_total", language="javascript") == 2
    assert value(seen, "codex_execution_seconds_count", language="python") == 1
    assert value(seen, "codex_phase_seconds_count", phase="queue") == 3
    assert value(seen, "codex_executions_running") == 0
    assert value(seen, "codex_queue_depth") == 0
    assert ("codex_pool_sandboxes", (("pool", "python"), ("state", "armed"))) in seen


async def test_refusals_are_counted_once_each(open_door):
    async with open_door(rate_limit="4/hour") as door:
        await door.client.post("/execute", json={})
        await door.execute("print 1", language="nope")
        await door.execute("print 1", timeout=99)
        await door.execute("die")
        await door.client.get("/nope")
        await door.execute("print 1")
        await door.execute("print 1")
        seen = await samples(door)
    for reason in ("unauthenticated", "unknown-language", "limit-too-loose", "fault", "rate-limited"):
        assert value(seen, "codex_rejections_total", reason=reason) == 1
    assert sum(v for (name, _), v in seen.items() if name == "codex_rejections_total") == 5


async def test_requests_are_measured_by_route_never_by_path(door):
    await door.client.get("/secret-token-in-the-path")
    await door.client.get("/health?token=secret")
    await door.client.head("/health")
    await door.client.request("SECRET", "/health")
    seen = await samples(door)
    assert value(seen, "codex_http_request_seconds_count", route="unmatched", method="GET", status="404") == 1
    assert value(seen, "codex_http_request_seconds_count", route="/health", method="GET", status="200") == 1
    assert value(seen, "codex_http_request_seconds_count", route="/health", method="HEAD", status="200") == 1
    assert value(seen, "codex_http_request_seconds_count", route="/health", method="other", status="405") == 1
    assert "secret" not in str(seen).lower()


async def test_the_version_is_told(door):
    seen = await samples(door)
    assert [labels for name, labels in seen if name == "codex_build_info"] == [
        (("version", __import__("codex_server").__version__),)
    ]


async def test_without_a_token_nothing_is_told(door):
    assert (await door.client.get("/metrics")).status_code == 401


async def test_two_servers_in_one_process_count_apart(open_door):
    async with open_door() as one, open_door() as two:
        await one.execute("print 1")
        assert (
            "codex_executions_total",
            (("backend", "fake"), ("language", "python"), ("status", "succeeded")),
        ) not in (await samples(two))
