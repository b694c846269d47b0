"""A door before a fake backend: in this process for most tests, on a free loopback port where sockets matter."""

import asyncio
import os
import socket
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx2
import pytest
import uvicorn

from codex_server.api.protocol import guarded
from codex_server.app import create_app
from codex_server.sandboxes.testing.fake import FakeBackend, fake_languages
from codex_server.settings import Settings
from tests.api.wire import TOKEN, Wire

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch, tmp_path):
    """No setting of whoever runs the tests."""
    for name in [name for name in os.environ if name.upper().startswith("CODEX_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@dataclass
class Door:
    app: object
    backend: FakeBackend
    client: httpx2.AsyncClient
    port: int = 0

    async def execute(self, code="print hi", *, headers=None, **fields):
        return await self.client.post("/execute", json={"code": code, **fields}, headers=BEARER | (headers or {}))

    async def post(self, content, *, headers=None, path="/execute"):
        """Send these bytes as JSON."""
        sent = BEARER | {"Content-Type": "application/json"} | (headers or {})
        return await self.client.post(path, content=content, headers=sent)

    async def get(self, path):
        return await self.client.get(path, headers=BEARER)


@pytest.fixture
def make_app(tmp_path):
    """An app before a fake; settings by keyword, a token unless auth is turned off."""

    def make(**changes):
        if not changes.get("allow_no_auth"):
            changes.setdefault("api_token", TOKEN)
        changes.setdefault("rate_limit", "")
        changes.setdefault("state_dir", tmp_path / "state")
        token = changes.pop("api_token", None)
        languages = changes.pop("languages", None) or fake_languages()
        settings = Settings(**changes) if token is None else Settings(api_token=token, **changes)
        backend = FakeBackend()
        return create_app(settings, backend=backend, languages=languages), backend

    return make


@pytest.fixture
def open_door(make_app):
    """``async with open_door(**settings) as door``: the app in this process."""

    @asynccontextmanager
    async def open_(**changes):
        app, backend = make_app(**changes)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client,
        ):
            yield Door(app, backend, client)
        assert backend.living == []

    return open_


@pytest.fixture
async def dial():
    """Connect to a door; hung up at the end of the test."""
    wires = []

    async def dial_(door):
        wires.append(Wire(*await asyncio.open_connection("127.0.0.1", door.port)))
        return wires[-1]

    yield dial_
    for wire in wires:
        wire.leave()
        await asyncio.gather(wire.writer.wait_closed(), return_exceptions=True)


@pytest.fixture
def serve(make_app):
    """``async with serve(**settings) as door``: the app in a real uvicorn on a free loopback port."""

    @asynccontextmanager
    async def serve_(connections=None, host="127.0.0.1", **changes):
        app, backend = make_app(**changes)
        listener = socket.create_server((host, 0))
        port = listener.getsockname()[1]
        seconds = changes.get("receive_seconds", 20.0)
        config = uvicorn.Config(app, http=guarded(seconds, connections), log_config=None, timeout_graceful_shutdown=10)
        server = _QuietServer(config)
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        await server.ready.wait()
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                yield Door(app, backend, client, port)
        finally:
            server.should_exit = True
            await running
        assert backend.living == []

    return serve_


class _QuietServer(uvicorn.Server):
    """Leaves the signals to pytest, and reports when it listens."""

    def __init__(self, config):
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self):
        yield

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.ready.set()


@pytest.fixture
async def door(open_door):
    """The app in this process with the default settings, but no rate limit."""
    async with open_door() as door:
        yield door
