"""The Docker engine stops, dies, hangs and comes back under a server: no answer is wrong, nothing is left, it heals."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from docker.transport.unixconn import UnixHTTPConnection

from codex_server.app import create_app
from codex_server.errors import StartupError
from codex_server.languages import Languages, load_languages
from codex_server.sandboxes.docker import backend as backend_module
from codex_server.sandboxes.docker import engine as engine_module
from codex_server.sandboxes.docker import sandbox as sandbox_module
from codex_server.sandboxes.docker import sweeper as sweeper_module
from codex_server.sandboxes.docker.backend import DockerBackend
from codex_server.sandboxes.docker.container import INSTANCE_LABEL
from codex_server.sandboxes.docker.images import PROTOCOL_LABEL, image_name
from codex_server.settings import Settings
from tests.faults.dockerd import Dockerd, private_engine
from tests.faults.running_server import BEARER, TOKEN, Heard
from tests.waiting import becomes, until

pytestmark = [pytest.mark.tier("change"), pytest.mark.anyio, pytest.mark.timeout(300)]

SECONDS = 90.0
"""Guards against a hang; nothing is judged by it."""
ARMED = 2
PLACES = 4
SESSIONS = 3
SLEEP = "import time; print('began', flush=True); time.sleep(60); print('ended')"

MEMORY = "kept = []\nwhile True: kept.append(b'x' * (1 << 20))"
FILES = """
for place in ('.', '/tmp', '/dev/shm'):
    for number in range(3):
        open(f'{place}/{number}', 'wb').write(b'x' * (20 << 20))
"""


@pytest.fixture(scope="module")
def python() -> Languages:
    """One language: one image to bring over."""
    return Languages(language for language in load_languages() if language.name == "python")


@pytest.fixture(scope="module")
def private(python: Languages) -> Iterator[tuple[Dockerd, str]]:
    with pytest.MonkeyPatch.context() as clean:
        for variable in [name for name in os.environ if name.startswith("CODEX_") and name != "CODEX_REQUIRE_LEVELS"]:
            clean.delenv(variable)
        with private_engine(python) as found:
            yield found


@pytest.fixture(autouse=True)
def sockets_that_reach_nobody_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK leaves one open where the engine died a moment before; warnings of it would fail whatever runs then."""

    def connect(self: UnixHTTPConnection) -> None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self.timeout)
            connection.connect(self.unix_socket)
        except BaseException:
            connection.close()
            raise
        self.sock = connection

    monkeypatch.setattr(UnixHTTPConnection, "connect", connect)


@pytest.fixture
def engine(private: tuple[Dockerd, str]) -> Iterator[Dockerd]:
    """The engine, running and without a container; it must be so after the test too."""
    engine, _ = private
    engine.start()
    yield engine
    engine.start()
    left = engine.ids()
    engine.remove_all()
    assert left == set()


@dataclass(frozen=True)
class Here:
    """The whole server in this process, over that engine."""

    backend: DockerBackend
    client: httpx2.AsyncClient

    async def execute(self, code: str, **fields: Any) -> httpx2.Response:
        return await self.client.post("/execute", json={"code": code} | fields, headers=BEARER)

    async def echo(self, number: int = 0) -> Heard:
        answer = await self.execute(f"import sys; print('code-{number}', sys.stdin.read())", stdin=f"stdin-{number}")
        return Heard(answer, f"code-{number} stdin-{number}\n")

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        answer = await self.client.get("/readyz")
        return answer.status_code, answer.json()

    async def ready(self) -> None:
        """Return when it is ready and its pool is full."""

        async def full() -> bool:
            status, told = await self.readiness()
            return bool(status == 200 and told["armed"]["python"] == ARMED)

        await becomes(full, SECONDS)

    async def not_ready(self) -> list[str]:
        """The reasons, as soon as it is not ready."""
        reasons: list[str] = []

        async def refused() -> bool:
            status, told = await self.readiness()
            reasons[:] = told["reasons"]
            return status != 200

        await becomes(refused, SECONDS)
        return reasons

    async def running(self, count: int = 1) -> None:
        """Return when so many executions run."""

        async def reached() -> bool:
            return bool((await self.readiness())[1]["running"] >= count)

        await becomes(reached, SECONDS)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a minute takes a moment."""
    monkeypatch.setattr(sweeper_module, "_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(engine_module, "_PATIENCE_SECONDS", 3)
    monkeypatch.setattr(backend_module, "_READY_SECONDS", 10.0)
    monkeypatch.setattr(sandbox_module, "_HARD_STOP_SECONDS", 2.0)


@pytest.fixture
def settings(private: tuple[Dockerd, str], tmp_path: Path) -> dict[str, Any]:
    engine, template = private
    return {
        "backend": "docker",
        "docker_host": engine.host,
        "docker_image": template,
        "api_token": TOKEN,
        "state_dir": tmp_path / "state",
        "pool_sizes": {"python": ARMED},
        "max_concurrency": PLACES,
        "max_sessions": SESSIONS,
        "queue_seconds": SECONDS,
        "rate_limit": "",
    }


@contextlib.asynccontextmanager
async def serving(settings: dict[str, Any], languages: Languages, **changes: Any) -> AsyncIterator[Here]:
    """The server, ready."""
    chosen = Settings(**settings | changes)
    backend = DockerBackend(chosen, languages)
    app = create_app(chosen, backend=backend, languages=languages)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://here", timeout=SECONDS) as client:
            here = Here(backend, client)
            await here.ready()
            yield here


async def settled(condition: Callable[[], bool]) -> None:
    """Return when ``condition``, which asks the engine, has come true; the server goes on meanwhile."""
    await becomes(lambda: asyncio.to_thread(condition), SECONDS)


def places_free(here: Here) -> int:
    """How many sandboxes could be made: one uid for each."""
    return len(here.backend._starter.free_uids)


async def assert_well(here: Here, engine: Dockerd) -> None:
    """It is ready and right, only the armed containers are there, and every other place is free again."""
    await here.ready()
    assert (await here.echo()).right
    await here.ready()
    await settled(lambda: len(engine.ids()) == ARMED)
    await settled(lambda: places_free(here) == PLACES + SESSIONS + backend_module._SPARE)


async def test_when_the_engine_is_stopped_callers_are_told_and_it_recovers_by_itself(engine, settings, python, quick):
    async with serving(settings, python) as here:
        await asyncio.to_thread(engine.stop)
        reasons = await here.not_ready()
        assert any(f"the Docker engine at {engine.host} cannot be reached: start it" in reason for reason in reasons)
        heard = await here.echo()
        assert (heard.answer.status_code, heard.problem) == (503, "sandbox-unavailable")
        assert "nothing of the program has begun" in heard.answer.json()["detail"]
        assert (await here.client.get("/livez")).status_code == 200
        await asyncio.to_thread(engine.start)
        await assert_well(here, engine)
    assert engine.ids() == set()


async def test_however_often_the_engine_goes_no_place_for_a_sandbox_is_lost(engine, settings, python, quick):
    async with serving(settings, python) as here:
        for _ in range(2):
            await asyncio.to_thread(engine.kill)
            await here.not_ready()
            await asyncio.to_thread(engine.start)
            await assert_well(here, engine)


async def test_when_the_engine_is_killed_a_running_program_is_a_fault_and_never_an_outcome(
    engine, settings, python, quick
):
    async with serving(settings, python) as here:
        asking = [asyncio.ensure_future(here.execute(SLEEP, timeout=30)) for _ in range(ARMED)]
        await here.running(ARMED)
        await settled(lambda: len(engine.ids(status=["running"])) >= ARMED)
        await asyncio.to_thread(engine.kill)
        for answer in await asyncio.gather(*asking):
            assert Heard(answer, "").problem in ("sandbox-fault", "sandbox-unavailable"), answer.text
        await asyncio.to_thread(engine.start)
        await assert_well(here, engine)


async def test_when_the_engine_is_killed_a_stream_ends_with_a_problem_and_background_executions_are_lost(
    engine, settings, python, quick
):
    async with serving(settings, python) as here:
        begun = (await here.execute(SLEEP, timeout=30, wait_seconds=0)).json()
        headers = BEARER | {"Accept": "application/x-ndjson"}
        fields = {"code": SLEEP, "timeout": 30}
        following = asyncio.ensure_future(here.client.post("/execute/stream", json=fields, headers=headers))
        await here.running(2)
        await settled(lambda: len(engine.programs()) >= 2)
        await asyncio.to_thread(engine.kill)
        last = json.loads((await following).text.splitlines()[-1])
        assert (last["type"], last["code"]) == ("problem", "sandbox-fault"), last
        address = f"/executions/{begun['execution_id']}"
        found = (await here.client.get(address, params={"wait_seconds": 30}, headers=BEARER)).json()
        assert (found["status"], found["problem"]["code"]) == ("lost", "sandbox-fault"), found
        await asyncio.to_thread(engine.start)
        await assert_well(here, engine)


async def test_while_the_engine_hangs_the_server_answers_and_makes_no_outcome_up(engine, settings, python, quick):
    async with serving(settings, python) as here:
        with engine.frozen():
            asking = [asyncio.ensure_future(here.execute("print(1)", timeout=1)) for _ in range(ARMED + 2)]
            await here.running(ARMED)
            while not all(request.done() for request in asking):
                async with asyncio.timeout(5):  # far below what the engine is given: nobody waits for it in the loop
                    assert (await here.client.get("/livez")).status_code == 200
                await asyncio.wait(asking, timeout=0.05)
            for answer in await asyncio.gather(*asking):
                assert Heard(answer, "").problem in ("sandbox-fault", "sandbox-unavailable"), answer.text
            assert any("does not answer within 3 s" in reason for reason in await here.not_ready())
        await assert_well(here, engine)


async def test_a_short_pause_of_the_engine_is_only_a_pause(engine, settings, python):
    async with serving(settings, python) as here:
        with engine.frozen():
            asking = asyncio.ensure_future(here.echo())
            await here.running()
        heard = await asking
        assert heard.right, heard.answer.text


async def test_a_burst_far_above_the_pool_is_answered_to_the_last_one(engine, settings, python):
    async with serving(settings, python) as here:
        heard = await asyncio.gather(*(here.echo(number) for number in range(30)))
        assert [one.answer.text for one in heard if not one.right] == []
        await assert_well(here, engine)


async def test_closing_leaves_no_container_though_programs_run(engine, settings, python):
    async with serving(settings, python, drain_seconds=0) as here:
        asking = [asyncio.ensure_future(here.execute(SLEEP, timeout=30)) for _ in range(PLACES)]
        await here.running(PLACES)
        await settled(lambda: len(engine.programs()) >= ARMED)
    assert engine.ids() == set()
    assert until(lambda: engine.programs() == [])
    told = [answer.json().get("code") or answer.json()["status"] for answer in await asyncio.gather(*asking)]
    assert set(told) <= {"cancelled", "draining"}, told
    assert told.count("cancelled") >= ARMED, "what had begun was told as never run"


async def test_a_container_that_is_killed_before_its_turn_is_replaced_and_nobody_notices(engine, settings, python):
    async with serving(settings, python) as here:
        for _ in range(3):
            await here.ready()
            with engine.client() as client:
                for container in engine.ids():
                    client.kill(container)
            assert (await here.echo()).right
        await assert_well(here, engine)


async def test_a_container_that_is_killed_while_its_program_runs_is_a_fault(engine, settings, python):
    async with serving(settings, python) as here:
        armed = engine.ids()
        asking = asyncio.ensure_future(here.execute(SLEEP, timeout=30))
        await here.running()
        with engine.client() as client:
            for container in armed:
                client.kill(container)
        answer = await asking
        assert Heard(answer, "").problem == "sandbox-fault", answer.text
        await assert_well(here, engine)


@pytest.mark.parametrize("hungry", [MEMORY, FILES], ids=["memory", "files"])
async def test_memory_above_the_limit_is_told_as_that_whoever_the_kernel_kills(engine, settings, python, hungry):
    async with serving(settings, python) as here:
        for _ in range(3):
            answer = await here.execute(hungry, limits={"memory_bytes": 48 * 2**20}, timeout=20)
            assert answer.status_code == 200, answer.text
            assert answer.json()["status"] == "memory_exceeded", answer.text
        await assert_well(here, engine)


async def test_a_container_that_dies_for_memory_itself_is_told_as_memory(engine, settings, python):
    """PID 1 too: the engine's word decides, and it comes after the stream has ended."""
    async with serving(settings, python) as here:
        with engine.client() as client:
            for container in engine.ids():
                client.update_container(container, mem_limit="100m", memswap_limit="100m")
                have_init_killed_first(client.inspect_container(container)["State"]["Pid"])
        answer = await here.execute(FILES, timeout=20)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (told["status"], told["signal"]) == ("memory_exceeded", "SIGKILL"), answer.text
        assert told["usage"]["peak_memory_bytes"] is None, "PID 1 was there to tell"
        await assert_well(here, engine)


def have_init_killed_first(pid: int) -> None:
    """The kernel's order among the processes of a container, turned around; as low as that of all containers."""
    least = Path(f"/proc/{pid}/oom_score_adj").read_text()
    Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        Path(f"/proc/{child}/oom_score_adj").write_text(least)


async def test_two_servers_on_one_state_folder_leave_each_others_containers_alone(engine, settings, python, quick):
    async with serving(settings, python) as first:
        mine = engine.ids()
        async with serving(settings, python) as second:
            assert mine < engine.ids()
            for here in (first, second):
                await here.backend._sweeper.sweep()
                await here.backend._sweeper.sweep()
            assert mine < engine.ids()
            heard = await asyncio.gather(first.echo(1), second.echo(2))
            assert [one.right for one in heard] == [True, True]
            await first.ready()
        instances = {row["Labels"][INSTANCE_LABEL] for row in engine.containers()}
        assert len(instances) == 1
        assert (await first.echo()).right
        await assert_well(first, engine)


async def test_after_a_server_was_killed_its_programs_end_and_the_next_start_removes_their_containers(
    engine, settings, python, quick
):
    process = serve_in_a_process_of_its_own(settings)
    try:
        url = await asyncio.to_thread(heard_url, process)
        async with httpx2.AsyncClient(base_url=url, timeout=SECONDS, trust_env=False) as client:
            asking = [
                asyncio.ensure_future(client.post("/execute", json={"code": SLEEP, "timeout": 30}, headers=BEARER))
                for _ in range(ARMED)
            ]

            async def busy() -> bool:
                return bool((await client.get("/readyz")).json()["running"] >= ARMED)

            await becomes(busy, SECONDS)
            await settled(lambda: len(engine.ids(status=["running"])) > ARMED)
            process.kill()
            for gone in await asyncio.gather(*asking, return_exceptions=True):
                assert isinstance(gone, httpx2.HTTPError)
    finally:
        process.kill()
        process.communicate()
    await settled(lambda: engine.programs() == [])
    left = engine.ids()
    assert left
    async with serving(settings, python) as here:
        assert not left & engine.ids()
        await assert_well(here, engine)


def serve_in_a_process_of_its_own(settings: dict[str, Any]) -> subprocess.Popen[str]:
    told = {
        "CODEX_BACKEND": "docker",
        "CODEX_DOCKER_HOST": settings["docker_host"],
        "CODEX_DOCKER_IMAGE": settings["docker_image"],
        "CODEX_STATE_DIR": str(settings["state_dir"]),
        "CODEX_POOL_SIZES": f"python={ARMED}",
        "CODEX_API_TOKEN": TOKEN,
        "CODEX_DATA_PACKAGES": "false",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "codex_server", "serve", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | told,
    )


def heard_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if "answers at " in line:
            return line.partition("answers at ")[2].split()[0]
    pytest.fail("the server did not start")


async def refusal(settings: dict[str, Any], python: Languages, **changes: Any) -> str:
    with pytest.raises(StartupError) as caught:
        async with serving(settings, python, **changes):
            pytest.fail("it started")
    return caught.value.detail


async def test_an_image_that_is_missing_is_told_with_the_command_that_builds_it(engine, settings, python):
    told = await refusal(settings, python, docker_image="codex-test-none-{runner}:1")
    assert f"the Docker engine at {engine.host} has none of the runners' images" in told
    assert "the image codex-test-none-python:1 is missing: `codex-server runners build python` builds it" in told


async def test_an_image_of_another_version_says_to_build_it_anew(engine, settings, python):
    name = settings["docker_image"].format(runner="python", version="old")
    with engine.client() as client:
        commit(client, settings["docker_image"], name, f"LABEL {PROTOCOL_LABEL}=0")
    told = await refusal(settings, python, docker_image=settings["docker_image"].replace("{version}", "old"))
    assert f"the image {name} is another version's: `codex-server runners build python` builds it anew" in told


def commit(client: Any, template: str, name: str, change: str) -> None:
    """The runner's image with one change, as ``name``."""
    made = client.create_container(image_name(template, "python"))
    try:
        client.commit(made["Id"], *name.split(":"), changes=change)
    finally:
        client.remove_container(made["Id"])


async def test_an_image_that_does_not_work_is_told_and_leaves_no_container(engine, settings, python):
    argv = ["python3", "-c", "raise SystemExit('so it is')"]
    name = settings["docker_image"].format(runner="python", version="broken")
    with engine.client() as client:
        commit(client, settings["docker_image"], name, f"ENTRYPOINT {json.dumps(argv)}")
    told = await refusal(settings, python, docker_image=settings["docker_image"].replace("{version}", "broken"))
    assert f"the image {name} does not work: a container ended before it was ready: so it is" in told
    assert engine.ids() == set()


async def test_a_runtime_that_the_engine_has_not_is_told_with_those_that_it_has(engine, settings, python):
    told = await refusal(settings, python, docker_runtime="runsc")
    assert "no runtime 'runsc' (CODEX_DOCKER_RUNTIME); it has" in told
    assert "runc" in told.partition("it has")[2]
