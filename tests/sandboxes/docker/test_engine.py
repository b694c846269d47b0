"""The engine's module: what it asks, what it makes of answers, and what it says when there is none.

In the engine's place stands a small HTTP server on a Unix socket; what it answers is a test's.
"""

import asyncio
import contextlib
import ctypes
import io
import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from codex_server.sandboxes.docker import engine as module
from codex_server.sandboxes.docker.engine import EndState, Engine, EngineError, EngineRefused, ImageFacts, NoSuchImage
from tests.waiting import until

pytestmark = pytest.mark.anyio

INFO = {
    "Architecture": "x86_64",
    "Runtimes": {"runc": {}, "runsc": {}},
    "MemoryLimit": True,
    "PidsLimit": True,
    "SwapLimit": True,
}
PLAIN: dict[str, Any] = {"arguments": {}, "labels": {}, "network": None}
Answer = tuple[int, Any]


class Handler(BaseHTTPRequestHandler):
    """Shows the fake what is requested, and answers what it says."""

    protocol_version = "HTTP/1.1"
    server: "Fake"

    def _answer(self) -> None:
        path = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = f"{self.command} {path.path.removeprefix('/v1.41')}"
        self.server.requested.append((name, parse_qs(path.query), body))
        answer = self.server.answers[name]
        if callable(answer):
            answer(self)
            return
        status, content = answer
        data = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Fake(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The server."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.requested: list[tuple[str, dict[str, list[str]], bytes]] = []
        self.answers: dict[str, Answer | Callable[[Handler], None]] = {
            "GET /version": (200, {"ApiVersion": "1.41"}),
            "GET /info": (200, INFO),
        }
        self.held = threading.Event()
        super().__init__(str(path), Handler)

    def handle_error(self, *_: object) -> None:
        """A client that hung up is part of a test."""

    def hold(self, handler: Handler) -> None:
        """Answer nothing until the test is over."""
        self.held.wait(60)
        handler.close_connection = True

    def last(self) -> tuple[str, dict[str, list[str]], Any]:
        name, query, body = self.requested[-1]
        return name, query, json.loads(body) if body else None


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_TLS_VERIFY", raising=False)
    with Fake(tmp_path / "engine.sock") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.held.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def engine(fake: Fake) -> Iterator[Engine]:
    engine = Engine(f"unix://{fake.server_address}")
    yield engine
    engine.close()


async def refused(engine: Engine) -> str:
    with pytest.raises(EngineError) as caught:
        await engine.connect()
    return str(caught.value)


async def test_it_reports_what_it_is(engine):
    facts = await engine.connect()
    assert (facts.machine, facts.runtimes, facts.cannot_limit) == ("x86_64", {"runc", "runsc"}, frozenset())


@pytest.mark.parametrize(
    ("key", "name"), [("MemoryLimit", "memory"), ("PidsLimit", "processes"), ("SwapLimit", "swap")]
)
async def test_what_it_cannot_limit_is_known(engine, fake, key, name):
    fake.answers["GET /info"] = (200, INFO | {key: False})
    assert (await engine.connect()).cannot_limit == {name}
    fake.answers["GET /info"] = (200, {reported: value for reported, value in INFO.items() if reported != key})
    assert (await engine.connect()).cannot_limit == {name}


@pytest.mark.parametrize(("reported", "machine"), [("arm64", "aarch64"), ("amd64", "x86_64"), ("aarch64", "aarch64")])
async def test_the_machine_is_named_as_the_kernel_names_it(engine, fake, reported, machine):
    fake.answers["GET /info"] = (200, INFO | {"Architecture": reported})
    assert (await engine.connect()).machine == machine


def test_the_host_is_the_settings_then_docker_hosts_then_this_machines_socket(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    assert Engine("unix:///mine").host == "unix:///mine"
    assert Engine().host == "tcp://10.0.0.1:2375"
    monkeypatch.delenv("DOCKER_HOST")
    assert Engine().host == "unix:///var/run/docker.sock"


@pytest.mark.parametrize("host", ["ssh://me@far", "https://far:2376", "npipe:////./pipe/docker_engine"])
async def test_a_host_that_cannot_carry_streams_plainly_is_refused_with_a_way_that_works(host):
    reported = await refused(Engine(host))
    assert reported.startswith(f"{host} cannot be used")
    assert "ssh -NL" in reported


async def test_a_host_with_tls_is_refused(engine, monkeypatch):
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    assert "cannot be used" in await refused(engine)


@pytest.mark.parametrize("host", ["ssh://me@far", "https://far:2376"])
def test_a_build_refuses_such_a_host_too(host):
    with pytest.raises(EngineError, match=f"{host} cannot be used"):
        list(Engine(host).build(io.BytesIO(), "name", **PLAIN))


async def test_where_no_engine_is_it_says_to_start_one_or_name_another(tmp_path):
    host = f"unix://{tmp_path}/none.sock"
    reported = await refused(Engine(host))
    assert reported == f"the Docker engine at {host} cannot be reached: start it, or name another one with DOCKER_HOST"


async def test_a_socket_that_nobody_listens_on_is_the_same(tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left.sock"))
    assert "cannot be reached: start it" in await refused(Engine(f"unix://{tmp_path}/left.sock"))


async def test_a_port_that_nobody_listens_on_is_the_same():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "cannot be reached: start it" in await refused(Engine(f"tcp://127.0.0.1:{port}"))


@contextlib.contextmanager
def as_one_who_may_not(path: str) -> Iterator[None]:
    """This thread, for files, as somebody whom the mode of ``path`` keeps out."""
    libc = ctypes.CDLL(None)
    os.chmod(path, 0o600 if os.geteuid() == 0 else 0)
    before = libc.setfsuid(65_534)
    try:
        yield
    finally:
        libc.setfsuid(before)


def test_an_account_that_may_not_is_shown_the_group(engine, fake):
    with as_one_who_may_not(fake.server_address), pytest.raises(EngineError, match="add it to the group docker"):
        list(engine.build(io.BytesIO(), "name", **PLAIN))


async def test_an_engine_that_does_not_answer_is_given_up(engine, fake, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.2)
    fake.answers["GET /info"] = fake.hold
    assert await refused(engine) == f"the Docker engine at {engine.host} does not answer within 0.2 s"


async def test_one_that_does_not_even_report_its_version_is_too(engine, fake, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.2)
    fake.answers["GET /version"] = fake.hold
    assert "does not answer within 0.2 s" in await refused(engine)


async def test_the_loop_goes_on_while_an_engine_is_slow(engine, fake):
    release = threading.Event()

    def slowly(handler: Handler) -> None:
        release.wait(60)
        fake.answers["GET /info"] = (200, INFO)
        handler._answer()

    fake.answers["GET /info"] = slowly
    asking = asyncio.ensure_future(engine.connect())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not asking.done()
    release.set()
    assert (await asyncio.wait_for(asking, 30)).machine == "x86_64"


async def test_an_engine_that_hangs_up_cannot_be_reached(engine, fake):
    def hang_up(handler: Handler) -> None:
        handler.close_connection = True

    fake.answers["GET /info"] = hang_up
    assert "cannot be reached" in await refused(engine)


async def test_one_that_is_back_is_spoken_to_again(engine, fake):
    def hang_up(handler: Handler) -> None:
        handler.close_connection = True

    fake.answers["GET /info"] = hang_up
    await refused(engine)
    fake.answers["GET /info"] = (200, INFO)
    assert (await engine.connect()).machine == "x86_64"


async def test_what_the_engine_refuses_is_reported_in_its_words(engine, fake):
    fake.answers["POST /containers/create"] = (400, {"message": "invalid CPU count"})
    with pytest.raises(EngineRefused, match="the Docker engine refuses: invalid CPU count"):
        await engine.create({})


async def test_a_container_is_made_from_the_body_as_it_stands(engine, fake):
    fake.answers["POST /containers/create"] = (201, {"Id": "c1", "Warnings": []})
    assert await engine.create({"Image": "x", "HostConfig": {"Memory": 1}}) == "c1"
    assert fake.last() == ("POST /containers/create", {}, {"Image": "x", "HostConfig": {"Memory": 1}})


async def test_the_labels_and_volumes_of_an_image(engine, fake):
    fake.answers["GET /images/mine/json"] = (200, {"Config": {"Labels": {"a": "b"}, "Volumes": {"/data": {}}}})
    fake.answers["GET /images/bare/json"] = (200, {"Config": {"Labels": None}})
    fake.answers["GET /images/none/json"] = (404, {"message": "No such image: none:latest"})
    assert await engine.image("mine") == ImageFacts({"a": "b"}, ("/data",))
    assert await engine.image("bare") == ImageFacts({})
    with pytest.raises(NoSuchImage, match="No such image: none"):
        await engine.image("none")


async def test_less_memory_is_less_swap_too(engine, fake):
    fake.answers["POST /containers/c1/update"] = (200, {"Warnings": None})
    await engine.limit("c1", memory_bytes=2**26)
    assert fake.last()[2] == {"Memory": 2**26, "MemorySwap": 2**26}


@pytest.mark.parametrize("status", [404, 409])
async def test_killing_or_removing_one_that_is_gone_is_no_error(engine, fake, status):
    fake.answers["POST /containers/c1/kill"] = (status, {"message": "it is not running"})
    fake.answers["DELETE /containers/c1"] = (status, {"message": "removal is already in progress"})
    await engine.kill("c1")
    await engine.remove("c1")
    assert fake.last()[:2] == ("DELETE /containers/c1", {"v": ["True"], "link": ["False"], "force": ["True"]})


async def test_one_that_cannot_be_removed_is_an_error(engine, fake):
    fake.answers["DELETE /containers/c1"] = (500, {"message": "device or resource busy"})
    with pytest.raises(EngineRefused, match="busy"):
        await engine.remove("c1")


async def test_starting_one_that_is_gone_is_an_error(engine, fake):
    fake.answers["POST /containers/c1/start"] = (404, {"message": "No such container: c1"})
    with pytest.raises(EngineRefused, match="No such container"):
        await engine.start("c1")


async def test_containers_are_requested_by_every_label_the_ended_ones_too(engine, fake):
    rows = [{"Id": "c1", "Labels": {"a": "1"}}, {"Id": "c2", "Labels": None}]
    fake.answers["GET /containers/json"] = (200, rows)
    assert await engine.containers(["a=1", "b=2"]) == [("c1", {"a": "1"}), ("c2", {})]
    _, query, _ = fake.last()
    assert query["all"] == ["1"]
    assert json.loads(query["filters"][0]) == {"label": ["a=1", "b=2"]}


async def test_how_a_container_ended(engine, fake):
    fake.answers["POST /containers/c1/wait"] = (200, {"StatusCode": 137})
    state = {"Running": False, "ExitCode": 137, "OOMKilled": True}
    fake.answers["GET /containers/c1/json"] = (200, {"State": state})
    assert await engine.end_state("c1") == EndState(running=False, oom_killed=True)


async def test_an_end_that_the_engine_has_not_noted_yet_is_waited_for(engine, fake):
    state = {"Running": True, "ExitCode": 0, "OOMKilled": False}

    def ended(handler: Handler) -> None:
        state.update({"Running": False, "ExitCode": 137, "OOMKilled": True})
        fake.answers["POST /containers/c1/wait"] = (200, {"StatusCode": 137})
        handler._answer()

    fake.answers["POST /containers/c1/wait"] = ended
    fake.answers["GET /containers/c1/json"] = (200, {"State": state})
    assert (await engine.end_state("c1")).oom_killed


async def test_a_stream_is_a_socket_that_carries_bytes_both_ways_until_it_is_closed(engine, fake):
    def upgrade(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        while data := handler.rfile.read1(100):
            handler.wfile.write(data.upper())

    fake.answers["POST /containers/c1/attach"] = upgrade
    before = len(os.listdir("/proc/self/fd"))
    with await engine.attach("c1") as connection:
        assert connection.getblocking() is False
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, b"hello")
        assert await asyncio.wait_for(loop.sock_recv(connection, 100), 30) == b"HELLO"
    assert fake.last()[1] == {"stdin": ["1"], "stdout": ["1"], "stderr": ["1"], "stream": ["1"]}
    engine.close()
    assert until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # the fake's own end too


async def test_a_stream_of_a_container_that_is_gone_is_refused(engine, fake):
    fake.answers["POST /containers/c1/attach"] = (404, {"message": "No such container: c1"})
    with pytest.raises(EngineRefused, match="No such container"):
        await engine.attach("c1")


def streamed(*rows: object, whole: bool = True) -> Callable[[Handler], None]:
    """The answer of a build: a JSON object a line, then the end."""

    def answer(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for row in rows:
            line = json.dumps(row).encode() + b"\r\n"
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        if whole:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def test_a_build_reports_its_lines_as_they_come_and_passes_its_arguments_and_labels(engine, fake):
    fake.answers["POST /build"] = streamed(
        {"stream": "Step 1/2 : FROM base\n"}, {"status": "Pulling"}, {"aux": {"ID": "sha256:1"}}, {"stream": "a\nb\n"}
    )
    reported = {"arguments": {"BASE": "base:12"}, "labels": {"a": "1"}, "network": "host"}
    lines = list(engine.build(io.BytesIO(b"tar"), "name:1", **reported))
    assert lines == ["Step 1/2 : FROM base", "Pulling", "a", "b"]
    name, query, body = fake.requested[-1]
    assert (name, query["t"], query["networkmode"]) == ("POST /build", ["name:1"], ["host"])
    assert json.loads(query["buildargs"][0]) == {"BASE": "base:12"}
    assert json.loads(query["labels"][0]) == {"a": "1"}
    assert body == b"tar"


def test_a_build_that_fails_says_what_the_engine_said(engine, fake):
    fake.answers["POST /build"] = streamed(
        {"stream": "Step 1/1 : FROM none\n"}, {"error": "pull access denied for none", "errorDetail": {}}
    )
    received = []
    with pytest.raises(EngineError, match=r"^pull access denied for none$"):
        received.extend(engine.build(io.BytesIO(), "name", **PLAIN))


def test_a_build_whose_engine_goes_away_is_no_success(engine, fake):
    fake.answers["POST /build"] = streamed({"stream": "Step 1/1 : FROM none\n"}, whole=False)
    with pytest.raises(EngineError, match="cannot be reached"):
        list(engine.build(io.BytesIO(), "name", **PLAIN))


async def test_a_host_without_a_thread_to_spare_is_reported_as_an_engine_that_cannot_be_requested(engine, monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(EngineError, match=r"cannot be asked: can't start new thread"):
        await engine.kill("c1")
