"""``/health``, ``/livez``, ``/readyz``, ``/languages``, ``/``: how the server is."""

import asyncio
import fcntl
import os
import re
from dataclasses import replace

import pytest
from dirty_equals import IsNow

from codex_server import __version__
from codex_server.api.routes.home import LINKS
from codex_server.app import begin_drain
from codex_server.languages import Languages, Start
from codex_server.packages.package_set import InstalledPackages, Package
from codex_server.sandboxes.testing.fake import fake_languages

pytestmark = pytest.mark.anyio


async def ready(door):
    while (response := await door.client.get("/readyz")).status_code != 200:
        await asyncio.sleep(0)
    return response


async def test_health_reports_version_languages_and_isolation(door):
    await ready(door)
    response = await door.client.get("/health")
    assert response.json() == {
        "status": "healthy",
        "version": __version__,
        "languages": ["python", "javascript", "typescript", "bash"],
        "isolation": "full",
        "timestamp": IsNow(iso_string=True, tz="UTC", delta=60),
    }


async def test_readiness_reports_what_stands_ready(door):
    response = await ready(door)
    body = response.json()
    assert (body["status"], body["reasons"]) == ("ready", [])
    assert set(body["armed"]) == {"python", "javascript"}


async def test_a_pool_that_the_settings_name_is_no_longer_shared(open_door):
    with_agents = Languages(
        replace(language, start=Start.AGENT) if language.pool == "javascript" else language
        for language in fake_languages()
    )
    async with open_door(languages=with_agents, pool_sizes={"javascript": 1, "typescript": 1}) as door:
        body = (await ready(door)).json()
        assert set(body["armed"]) == {"python", "javascript", "typescript"}
        assert (await door.execute("print hi", language="typescript")).json()["status"] == "succeeded"


async def test_readiness_is_503_with_the_reason_while_the_back_end_has_a_problem(door):
    await ready(door)
    door.backend.trouble = "the zygote is being restarted"
    response = await door.client.get("/readyz")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["reasons"] == ["the zygote is being restarted"]
    health = await door.client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")


async def test_liveness_looks_at_nothing(door):
    door.backend.trouble = "all is lost"
    response = await door.client.get("/livez")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


async def test_draining_refuses_new_executions_and_lets_running_ones_finish(door):
    await ready(door)
    running = asyncio.ensure_future(door.execute("wait go\nprint done"))
    while not door.backend.executions:
        await asyncio.sleep(0)
    drained = begin_drain(door.app)
    assert begin_drain(door.app) is drained
    await asyncio.sleep(0)
    assert (await door.client.get("/readyz")).status_code == 503
    assert (await door.client.get("/livez")).status_code == 200
    assert (await door.client.get("/health")).json()["status"] == "draining"
    refused = await door.execute("print 1")
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert int(refused.headers["retry-after"]) >= 1
    assert not drained.done()
    door.backend.event("go").set()
    assert (await running).json()["stdout"] == "done\n"
    async with asyncio.timeout(10):
        await drained


async def test_what_still_runs_when_the_drain_is_over_is_cancelled_and_reported(open_door):
    async with open_door(drain_seconds=0) as door:
        running = asyncio.ensure_future(door.execute("print so far\nwait never"))
        while not door.backend.executions:
            await asyncio.sleep(0)
        await begin_drain(door.app)
        body = (await running).json()
    assert (body["status"], body["stdout"]) == ("cancelled", "so far\n")
    assert body["error"] == "Cancelled before it ended"


async def test_the_end_of_the_lifespan_drains_and_closes_everything(make_app):
    app, backend = make_app()
    async with app.router.lifespan_context(app):
        assert backend.started
        while app.state.executor.not_ready():
            await asyncio.sleep(0)
        assert backend.living
    assert not backend.started
    assert backend.living == []


async def test_a_drain_that_is_cut_short_still_ends_in_order(open_door):
    async with open_door() as door:
        running = asyncio.ensure_future(door.execute("print so far\nwait never"))
        while not door.backend.executions:
            await asyncio.sleep(0)
        begin_drain(door.app).cancel()
    assert (await running).json()["status"] == "cancelled"


async def test_a_back_end_that_cannot_start_stops_the_start(make_app, monkeypatch):
    app, backend = make_app()

    async def refuse():
        raise RuntimeError("no namespaces")

    monkeypatch.setattr(backend, "start", refuse)
    with pytest.raises(RuntimeError, match="no namespaces"):
        async with app.router.lifespan_context(app):
            pass


async def test_languages_report_name_version_and_availability(door):
    response = await door.client.get("/languages")
    languages = {language["name"]: language for language in response.json()["languages"]}
    assert languages["python"] == {
        "name": "python",
        "title": "Python",
        "version": "1.2.3",
        "available": True,
        "aliases": ["py", "python3"],
        "file_name": "main.python",
        "packages": [],
    }
    assert (languages["cobol"]["available"], languages["cobol"]["version"]) == (False, None)


async def test_languages_report_the_packages_that_programs_can_import(open_door, tmp_path):
    there = InstalledPackages(tmp_path, "pip", "/usr/bin/python3", (Package("numpy", "2.4.6"),), 1)
    python = replace(fake_languages().find("python"), packages=there)
    async with open_door(languages=Languages([python])) as door:
        (python,) = (await door.client.get("/languages")).json()["languages"]
        other = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # nobody removes them while the server runs
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
    assert python["packages"] == [{"name": "numpy", "version": "2.4.6"}]


async def test_home_leads_to_every_route_but_the_operations_on_files(door):
    body = (await door.client.get("/")).json()
    assert (body["name"], body["version"]) == ("Codex Server", __version__)
    paths = {path for path in door.app.openapi()["paths"] if not re.search(r"}/files/[a-z]+$", path)}
    assert set(body["links"].values()) == paths - {"/"} | {
        "/docs",
        "/openapi.json",
        "/actions/openapi.json",
        "/problems",
    }
    assert body["links"] == LINKS
