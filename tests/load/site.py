"""The whole server in this process, on a free loopback port, with a real embedded backend at one isolation level."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI

from codex_server.app import begin_drain, create_app
from codex_server.cli.graceful import GracefulServer
from codex_server.errors import StartupError
from codex_server.languages import load_languages
from codex_server.sandboxes.base import IsolationLevel
from codex_server.sandboxes.embedded.backend import EmbeddedBackend
from codex_server.settings import Settings
from tests.host_snapshot import next_guest_ids
from tests.levels import out_of_reach
from tests.waiting import becomes

TOKEN = "codex_" + "t" * 43
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SECONDS = 60.0
"""Guards against a hang; nothing is judged by it."""
PLACES = 4
POOLS = {"python": 4, "javascript": 2}


@dataclass(frozen=True)
class Site:
    """A running server and its client."""

    app: FastAPI
    client: httpx2.AsyncClient
    port: int

    async def execute(self, **fields: Any) -> httpx2.Response:
        """One execution."""
        return await self.client.post("/execute", json=fields, headers=BEARER)

    async def outcome(self, **fields: Any) -> dict[str, Any]:
        """The answer of an execution that has an outcome."""
        answer = await self.execute(**fields)
        assert answer.status_code == 200, answer.text
        outcome: dict[str, Any] = answer.json()
        return outcome

    async def running(self, count: int) -> bool:
        """Whether just so many executions run."""
        return bool((await self.client.get("/readyz")).json()["running"] == count)

    async def ready(self) -> None:
        """Return when nothing runs or waits, and every pool is full."""

        async def idle() -> bool:
            told = (await self.client.get("/readyz")).json()
            busy = told["running"] + told["queued"]
            return not busy and all(told["armed"].get(pool, 0) >= size for pool, size in POOLS.items())

        await becomes(idle, SECONDS)

    async def settled(self, faults: Callable[[], list[str]], seconds: float = 10.0) -> list[str]:
        """What ``faults`` finds when it finds nothing any more, or after ``seconds``; the server runs meanwhile."""

        async def clean() -> bool:
            return faults() == []

        with contextlib.suppress(TimeoutError):
            await becomes(clean, seconds)
        return faults()


@contextlib.asynccontextmanager
async def site(level: str, state: Path, **changes: Any) -> AsyncIterator[Site]:
    """The server at ``level``; a named skip where this machine cannot give it."""
    usual: dict[str, Any] = {
        "api_token": TOKEN,
        "state_dir": state,
        "min_isolation": level,
        "guest_ids": next_guest_ids(),
        "pool_sizes": POOLS,
        "max_concurrency": PLACES,
        "rate_limit": "",
        "max_flood": 2**20,
    }
    settings = Settings(**usual | changes)
    languages = load_languages()
    backend = EmbeddedBackend(settings, languages, most=IsolationLevel[level.upper()])
    app = create_app(settings, backend=backend, languages=languages)
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(app.router.lifespan_context(app))
        except StartupError as error:
            out_of_reach(level, error)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        await stack.enter_async_context(_listening(app, listener, settings))
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        client = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=SECONDS, limits=limits, trust_env=False
        )
        await stack.enter_async_context(client)
        here = Site(app, client, port)
        await here.ready()
        yield here


@contextlib.asynccontextmanager
async def _listening(app: FastAPI, listener: socket.socket, settings: Settings) -> AsyncIterator[None]:
    server = GracefulServer(app, lambda: begin_drain(app), receive_seconds=settings.receive_seconds)
    ready = asyncio.Event()
    serving = asyncio.ensure_future(server.serve_until_signal(listener, {}, ready.set))
    await ready.wait()
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def request_bytes(**fields: Any) -> Iterator[bytes]:
    """A request in pieces: its header, then its body in pieces of 4 KiB."""
    body = json.dumps(fields).encode()
    yield (
        f"POST /execute HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    yield from (body[start : start + 4096] for start in range(0, len(body), 4096))
