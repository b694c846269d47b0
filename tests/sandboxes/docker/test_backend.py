"""The backend over a fake engine: whatever goes wrong while a container is made, nothing of it is left."""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from codex_server.errors import IsolationTooWeak, SandboxUnavailable, StartupError
from codex_server.languages import Languages, load_languages
from codex_server.sandboxes.base import IsolationLevel, Sandbox
from codex_server.sandboxes.docker import backend as module
from codex_server.sandboxes.docker.backend import DockerBackend
from codex_server.sandboxes.docker.container import (
    INSTANCE_LABEL,
    OWN_MEMORY_BYTES,
    OWN_MEMORY_BYTES_PRELOADED,
    OWNER_LABEL,
)
from codex_server.sandboxes.docker.engine import EngineError, EngineFacts, EngineRefused, ImageFacts, NoSuchImage
from codex_server.sandboxes.docker.images import LABELS, PROTOCOL_LABEL
from codex_server.sandboxes.protocol import frames, stream
from codex_server.settings import Settings

pytestmark = pytest.mark.anyio

CONTENTS = {
    "programs": {"python": {"path": "/usr/bin/python3", "answer": "Python 3.13.9"}},
    "pip": [["numpy", "2.3"]],
    "npm": [],
}
PLACES, ARMED = 2, 1
BUILT = ImageFacts(LABELS)


def framed(data: bytes, number: int = 1) -> bytes:
    return struct.pack(">B3xI", number, len(data)) + data


def ready(kind: frames.Kind) -> bytes:
    return framed(stream.pack(frames.Kind.READY, CONTENTS if kind is frames.Kind.PROBE else {}))


@dataclass
class FakeEngine:
    """Containers whose PID 1 answers its first frame with what ``says`` has for it; None ends it without a word."""

    host: str = "unix:///fake"
    images: dict[str, ImageFacts] = field(default_factory=dict)
    cannot_limit: frozenset[str] = frozenset()
    living: dict[str, dict[str, Any]] = field(default_factory=dict)
    ends: dict[str, socket.socket] = field(default_factory=dict)
    says: Callable[[frames.Kind], bytes | None] = ready
    refuses: str | None = None
    made: int = 0
    closed: bool = False
    pid_1: list[asyncio.Task[None]] = field(default_factory=list)
    armed: list[Sandbox] = field(default_factory=list)

    async def connect(self) -> EngineFacts:
        self._may("connect")
        return EngineFacts("x86_64", frozenset({"runc"}), self.cannot_limit)

    async def image(self, name: str) -> ImageFacts:
        if name not in self.images:
            raise NoSuchImage(name)
        return self.images[name]

    async def create(self, config: dict[str, Any]) -> str:
        self._may("create")
        self.made += 1
        self.living[f"c{self.made}"] = config
        return f"c{self.made}"

    async def attach(self, container: str) -> socket.socket:
        self._may("attach")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.ends[container] = theirs
        return ours

    async def start(self, container: str) -> None:
        self._may("start")
        self.pid_1.append(asyncio.ensure_future(self._run(self.ends[container])))

    async def _run(self, end: socket.socket) -> None:
        unpacker, loop = stream.Unpacker(2**20), asyncio.get_running_loop()
        while data := await loop.sock_recv(end, 2**16):
            for kind, _, _ in unpacker.feed(data):
                if (answer := self.says(kind)) is None:
                    end.close()
                    return
                await loop.sock_sendall(end, answer)

    async def remove(self, container: str) -> None:
        self._may("remove")
        self.living.pop(container, None)

    async def containers(self, labels: list[str]) -> list[tuple[str, dict[str, str]]]:
        wanted = dict(label.split("=") for label in labels)
        rows = [(name, config["Labels"]) for name, config in self.living.items()]
        return [(name, found) for name, found in rows if wanted.items() <= found.items()]

    def close(self) -> None:
        self.closed = True

    def _may(self, what: str) -> None:
        if self.refuses == what:
            raise EngineRefused(f"the Docker engine refuses: no {what}")


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    engine = FakeEngine(images={"python:1": BUILT})
    monkeypatch.setattr(module, "Engine", lambda host: engine)
    monkeypatch.setattr(module, "_SPARE", 0)
    yield engine
    for sandbox in engine.armed:
        await sandbox.destroy()
    for task in engine.pid_1:
        task.cancel()
    await asyncio.gather(*engine.pid_1, return_exceptions=True)
    for end in engine.ends.values():
        end.close()


@pytest.fixture(scope="module")
def python() -> Languages:
    return Languages(language for language in load_languages() if language.name == "python")


@pytest.fixture
def made(engine: FakeEngine, python: Languages, tmp_path: Path) -> Callable[..., DockerBackend]:
    def make(languages: Languages = python, **changes: Any) -> DockerBackend:
        usual = {"docker_image": "{runner}:1", "state_dir": tmp_path, "max_concurrency": PLACES, "max_sessions": 0}
        return DockerBackend(Settings(**{**usual, "pool_sizes": {"python": ARMED}, **changes}), languages)

    return make


@pytest.fixture
async def backend(made: Callable[..., DockerBackend]) -> Any:
    async with made() as backend:
        backend.languages = await backend.survey(backend._languages)  # type: ignore[attr-defined]
        yield backend


async def arm(backend: Any) -> Any:
    sandbox = await asyncio.wait_for(backend.arm(backend.languages.find("python")), 30)
    backend._engine.armed.append(sandbox)
    return sandbox


async def turns() -> None:
    """Let everything go on that does not wait for anybody."""
    for _ in range(10):
        await asyncio.sleep(0)


def places(backend: DockerBackend) -> int:
    return len(backend._starter.free_uids)


async def test_it_looks_into_each_image_and_leaves_nothing_of_that(backend, engine):
    assert backend.isolation.level is IsolationLevel.FULL
    assert (engine.made, engine.living) == (1, {})
    python = backend.languages.find("python")
    assert (python.version, str(python.interpreter.path)) == ("3.13.9", "/usr/bin/python3")
    assert places(backend) == PLACES + ARMED


async def test_an_armed_sandbox_is_one_container_with_both_labels_and_a_uid_of_its_own(backend, engine):
    first, second = await arm(backend), await arm(backend)
    assert first.alive
    users = {config["User"] for config in engine.living.values()}
    assert len(users) == len(engine.living) == 2
    assert all({OWNER_LABEL, INSTANCE_LABEL} == set(config["Labels"]) for config in engine.living.values())
    await first.destroy()
    await second.destroy()
    assert engine.living == {}
    assert places(backend) == PLACES + ARMED


async def test_above_its_places_it_makes_none(backend, engine):
    for _ in range(PLACES + ARMED):
        await arm(backend)
    with pytest.raises(SandboxUnavailable, match="every sandbox of this server is in use"):
        await arm(backend)
    assert len(engine.living) == PLACES + ARMED


@pytest.mark.parametrize("step", ["create", "attach", "start"])
async def test_whatever_the_engine_refuses_nothing_is_left_and_the_reason_is_reported(backend, engine, step):
    engine.refuses = step
    with pytest.raises(SandboxUnavailable, match=f"no {step}; try again"):
        await arm(backend)
    assert backend.problem() == f"the Docker engine refuses: no {step}"
    assert (engine.living, places(backend)) == ({}, PLACES + ARMED)
    engine.refuses = None
    await arm(backend)
    assert backend.problem() is None


async def test_a_failure_is_forgotten_when_no_container_was_needed_for_a_while_since(backend, engine, monkeypatch):
    engine.refuses = "create"
    with pytest.raises(SandboxUnavailable):
        await arm(backend)
    assert backend.problem() is not None
    backend._starter._trouble_until = asyncio.get_running_loop().time() - 1
    assert backend.problem() is None


@pytest.mark.parametrize("missing", [{"memory"}, {"processes"}, {"memory", "processes", "swap"}])
async def test_an_engine_that_cannot_limit_a_program_is_not_taken(made, engine, missing):
    engine.cannot_limit = frozenset(missing)
    with pytest.raises(IsolationTooWeak, match=" and ".join(sorted(missing - {"swap"})) + ", so one program"):
        await made().start()
    assert engine.closed


async def test_an_engine_that_cannot_limit_swap_is_taken_and_that_is_reported(made, engine):
    engine.cannot_limit = frozenset({"swap"})
    async with made() as backend:
        assert any("swap" in line for line in backend.isolation.shortfall)


async def test_an_image_with_volumes_is_left_out(made, engine):
    engine.images["python:1"] = ImageFacts(LABELS, ("/data", "/cache"))
    with pytest.raises(StartupError, match="has volumes \\(/data, /cache\\)"):
        await made().start()


async def test_a_container_that_has_imported_the_data_packages_has_memory_for_them(backend, engine):
    python = backend.languages.find("python")
    for pool in ("python", "python-data"):
        engine.armed.append(await backend.arm(python, pool))
    plain, data = (config["HostConfig"]["Memory"] for config in engine.living.values())
    assert data - plain == OWN_MEMORY_BYTES_PRELOADED - OWN_MEMORY_BYTES


@pytest.mark.parametrize(
    ("answer", "reported"),
    [
        (None, "ended before it was ready: without a word"),
        (framed(b"Traceback ...\nMemoryError\n", 2) + b"\7" * 8, "ended before it was ready: MemoryError"),
        (
            framed(stream.pack(frames.Kind.FAULT, {"step": "worker", "errno": 1, "message": "no uid"})),
            "armed: worker: no uid",
        ),
        (framed(b"hello, world"), "ended before it was ready"),
    ],
    ids=["nothing", "a word on stderr", "a fault", "noise"],
)
async def test_a_container_that_does_not_become_ready_is_removed_and_what_it_said_is_reported(
    backend, engine, answer, reported
):
    engine.says = lambda kind: answer
    with pytest.raises(SandboxUnavailable, match=reported):
        await arm(backend)
    assert (engine.living, places(backend)) == ({}, PLACES + ARMED)


async def test_a_container_that_is_gone_before_it_is_sent_anything_is_removed(backend, engine, monkeypatch):
    async def start(container: str) -> None:
        engine.ends[container].close()
        await turns()  # so that the loop learns of it

    monkeypatch.setattr(engine, "start", start)
    with pytest.raises(SandboxUnavailable, match="ended at once"):
        await arm(backend)
    assert (engine.living, places(backend)) == ({}, PLACES + ARMED)


async def test_a_container_that_never_becomes_ready_is_given_up(backend, engine, monkeypatch):
    monkeypatch.setattr(module, "_READY_SECONDS", 0.05)
    engine.says = lambda kind: b""
    with pytest.raises(SandboxUnavailable, match=r"was not ready within 0\.05 s"):
        await arm(backend)
    assert (engine.living, places(backend)) == ({}, PLACES + ARMED)


async def test_an_arming_that_is_cancelled_goes_on_behind_and_leaves_nothing(backend, engine):
    arming = asyncio.ensure_future(arm(backend))
    async with asyncio.timeout(30):
        while not engine.living:
            await asyncio.sleep(0)
    arming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await arming
    async with asyncio.timeout(30):
        while engine.living or places(backend) < PLACES + ARMED:
            await asyncio.sleep(0)


async def test_closing_waits_for_an_arming_that_was_cancelled(made, engine, monkeypatch):
    backend: Any = made()
    await backend.start()
    backend.languages = await backend.survey(backend._languages)
    go_on, start = asyncio.Event(), engine.start

    async def start_late(container: str) -> None:
        await go_on.wait()
        await start(container)

    monkeypatch.setattr(engine, "start", start_late)
    arming = asyncio.ensure_future(arm(backend))
    async with asyncio.timeout(30):
        while not engine.ends.keys() >= engine.living.keys() > set():
            await asyncio.sleep(0)
    arming.cancel()
    await asyncio.wait([arming])
    closing = asyncio.ensure_future(backend.close())
    await turns()
    assert (closing.done(), engine.closed, len(engine.living)) == (False, False, 1)
    go_on.set()
    await asyncio.wait_for(closing, 30)
    assert (engine.living, engine.closed, places(backend)) == ({}, True, PLACES + ARMED)


async def test_a_place_whose_container_could_not_be_removed_is_free_when_it_is_gone(backend, engine):
    sandbox = await arm(backend)
    engine.refuses = "remove"
    await sandbox.destroy()
    assert (len(engine.living), places(backend)) == (1, PLACES + ARMED - 1)
    engine.refuses = None
    await backend._sweeper.sweep()
    assert (engine.living, places(backend)) == ({}, PLACES + ARMED)


async def test_closing_removes_what_is_armed_and_then_arms_no_more(made, engine):
    backend: Any = made()
    await backend.start()
    backend.languages = await backend.survey(backend._languages)
    await arm(backend)
    await backend.close()
    assert (engine.living, engine.closed) == ({}, True)
    with pytest.raises(SandboxUnavailable, match="closed"):
        await arm(backend)


async def test_a_start_without_an_engine_frees_what_it_had(made, engine):
    engine.refuses = "connect"
    backend = made()
    with pytest.raises(StartupError, match="the docker backend cannot start: the Docker engine refuses: no connect"):
        await backend.start()
    assert engine.closed
    await backend.close()
    engine.refuses = None
    async with made():
        assert engine.living == {}


async def test_a_start_whose_image_does_not_work_waits_until_every_look_has_cleared_up(engine, tmp_path, made):
    languages = Languages(language for language in load_languages() if language.name in ("python", "bash"))
    engine.images["bash:1"] = BUILT
    engine.says = lambda kind: None
    with pytest.raises(StartupError, match=r"the image \w+:1 does not work: a container ended before it was ready"):
        await made(languages).start()
    assert (engine.made, engine.living) == (2, {})


async def test_images_that_are_missing_or_of_another_version_leave_their_languages_out(engine, made, caplog):
    languages = Languages(load_languages())
    engine.images["bash:1"] = ImageFacts(LABELS | {PROTOCOL_LABEL: "0"})
    async with made(languages) as backend:
        bash, javascript = sorted(backend.isolation.shortfall)
        builds = "`codex-server runners build bash` builds it anew"
        assert bash == f"bash is left out: the image bash:1 is another version's: {builds}"
        builds = "`codex-server runners build javascript` builds it"
        assert javascript == f"javascript is left out: the image javascript:1 is missing: {builds}"
        known = await backend.survey(languages)
        assert [language.name for language in known if language.available] == ["python"]
        with pytest.raises(SandboxUnavailable, match="Bash has no image; `codex-server runners build` builds it"):
            await backend.arm(next(language for language in known if language.name == "bash"))


async def test_a_container_that_the_engine_keeps_does_not_keep_the_next_server_from_starting(made, engine, tmp_path):
    async with made():
        owner = (tmp_path / "docker-owner").read_text().strip()
    engine.living["stuck"] = {"Labels": {OWNER_LABEL: owner, INSTANCE_LABEL: "of a dead server"}}
    engine.refuses = "remove"
    async with made() as backend:
        assert backend.isolation.level is IsolationLevel.FULL
        assert "stuck" in engine.living
        engine.refuses = None
        await backend._sweeper.sweep()
        assert "stuck" not in engine.living


async def test_without_any_image_it_does_not_start_and_says_why_of_each(engine, made):
    engine.images = {"python:1": ImageFacts(LABELS | {PROTOCOL_LABEL: "0"})}
    with pytest.raises(StartupError) as caught:
        await made(Languages(load_languages())).start()
    reported = caught.value.detail.splitlines()
    assert reported[0].endswith("has none of the runners' images; `codex-server runners build` builds them:")
    assert len(reported) == 4
    assert any("python is left out: the image python:1 is another version's" in line for line in reported)


async def test_a_runtime_that_the_engine_has_not_is_refused_with_those_that_it_has(made):
    with pytest.raises(StartupError, match=r"no runtime 'runsc' \(CODEX_DOCKER_RUNTIME\); it has runc"):
        await made(docker_runtime="runsc").start()


async def test_a_runtime_is_requested_and_reported(engine, made):
    async with made(docker_runtime="runc") as backend:
        assert backend.isolation.summary.endswith(", runtime runc")


async def test_programs_that_import_data_packages_have_a_pool_of_their_own_where_the_image_has_them(backend, engine):
    python = backend.languages.find("python")
    assert backend.pool_keys(python) == ("python", "python-data")
    assert backend.pool_key(python, "import pandas") == "python-data"
    assert backend.pool_key(python, "print(1)") == "python"
    assert backend.pool_key(python, "import pandas; table.to_parquet('t')") == "python"
    for given in ("MPLBACKEND", "conf/matplotlibrc"):
        assert backend.pool_key(python, "import pandas", ["TZ", "a.csv", given]) == "python"


async def test_an_image_without_data_packages_has_one_pool_for_all_python_programs(made, engine):
    engine.says = lambda kind: framed(stream.pack(frames.Kind.READY, CONTENTS | {"pip": []}))
    async with made() as backend:
        python = (await backend.survey(backend._languages)).find("python")
        assert backend.pool_keys(python) == ("python",)
        assert backend.pool_key(python, "import pandas") == "python"


async def test_an_engine_that_does_not_report_what_is_there_at_the_start_is_no_start(made, engine, monkeypatch):
    async def containers(labels: list[str]) -> list[tuple[str, dict[str, str]]]:
        raise EngineError("the Docker engine does not answer within 20 s")

    monkeypatch.setattr(engine, "containers", containers)
    with pytest.raises(StartupError, match="does not answer within 20 s"):
        await made().start()
