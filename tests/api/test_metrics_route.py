"""``GET /metrics``: what Prometheus gets, and what never becomes a label."""

import asyncio
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from codex_server.app import begin_drain
from tests.api.conftest import BEARER

pytestmark = pytest.mark.anyio


async def samples(door):
    response = await door.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(response.text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(samples, name, **labels):
    return samples[name, tuple(sorted(labels.items()))]


def rejections(samples):
    counted = ((labels, count) for (name, labels), count in samples.items() if name == "codex_rejections_total")
    return {dict(labels)["reason"]: count for labels, count in counted}


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


async def test_sessions_are_counted_as_they_open_and_by_why_they_end(door):
    paths = []
    for _ in range(4):
        opened = await door.client.post("/sessions", json={}, headers=BEARER)
        paths.append(opened.headers["location"])
    assert value(await samples(door), "codex_sessions_open") == 4
    await door.client.delete(paths[0], headers=BEARER)
    door.backend.sessions[1].die("its container had no memory left")
    sessions = door.app.state.services.sessions
    sessions._clock = lambda: time.monotonic() + 1000
    for path in paths[2:]:
        sessions._open[path.removeprefix("/sessions/")]._clock = sessions._clock
    await sessions.sweep()
    seen = await samples(door)
    assert (value(seen, "codex_sessions_open"), value(seen, "codex_sessions_opened_total")) == (0, 4)
    ended = {reason: value(seen, "codex_sessions_ended_total", reason=reason) for reason in ("closed", "lost", "idle")}
    assert ended == {"closed": 1, "lost": 1, "idle": 2}


async def test_refusals_are_counted_once_each_by_the_problem_s_code(open_door):
    async with open_door(rate_limit="6/hour") as door:
        responses = [
            await door.client.post("/execute", json={}),
            await door.execute("print 1", language="nope"),
            await door.execute("print 1", language="cobol"),
            await door.execute("print 1", timeout=99),
            await door.execute("die"),
        ]
        door.backend.runs_that_find_death = 3
        responses.append(await door.execute("print 1"))
        await door.client.get("/nope")
        await door.execute("print 1")
        responses.append(await door.execute("print 1"))
        counted = rejections(await samples(door))
    assert set(counted) == {
        "unauthenticated",
        "unknown-language",
        "language-unavailable",
        "limit-too-loose",
        "sandbox-fault",
        "sandbox-unavailable",
        "rate-limited",
    }
    assert counted == {response.json()["code"]: 1 for response in responses}


async def test_what_a_full_and_a_stopping_server_refuse_is_counted_too(open_door):
    async with open_door(max_concurrency=1, queue_length=0) as door:
        running = asyncio.ensure_future(door.execute("wait go"))
        while not door.backend.executions:
            await asyncio.sleep(0)
        await door.execute("print 1")
        begin_drain(door.app)
        await asyncio.sleep(0)
        await door.execute("print 1")
        door.backend.event("go").set()
        assert (await running).status_code == 200
        assert rejections(await samples(door)) == {"busy": 1, "draining": 1}


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


async def test_the_version_is_reported(door):
    seen = await samples(door)
    assert [labels for name, labels in seen if name == "codex_build_info"] == [
        (("version", __import__("codex_server").__version__),)
    ]


async def test_without_a_token_nothing_is_reported(door):
    assert (await door.client.get("/metrics")).status_code == 401


async def test_two_servers_in_one_process_count_apart(open_door):
    async with open_door() as one, open_door() as two:
        await one.execute("print 1")
        assert (
            "codex_executions_total",
            (("backend", "fake"), ("language", "python"), ("status", "succeeded")),
        ) not in (await samples(two))
