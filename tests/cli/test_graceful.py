"""``cli/graceful.py`` in this process: how signals end a server, whoever is connected and whatever still runs."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request

from codex_server.api import protocol
from codex_server.cli import graceful
from codex_server.cli.graceful import GracefulServer
from codex_server.cli.listener import bind_listener

pytestmark = pytest.mark.anyio
SECONDS = 20
"""Guards against a hang; nothing is judged by it."""
EVER = 1000.0
BOTH = [signal.SIGTERM, signal.SIGINT]


@dataclass
class Place:
    """A server with the test in the place of whatever sends signals, drains, and answers."""

    handlers: dict[int, Callable[[], None]] = field(default_factory=dict)
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    drain: asyncio.Task[None] | None = None
    requests: list[str] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def __post_init__(self) -> None:
        app = FastAPI()
        app.get("/")(self._answer)
        self.server = GracefulServer(app, self._begin_drain, receive_seconds=EVER)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.ready = asyncio.Event()

    async def _answer(self) -> str:
        self.asked.set()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.requests.append("cancelled")
            raise
        self.requests.append("answered")
        return "answered"

    def _begin_drain(self) -> asyncio.Task[None]:
        self.drain = asyncio.ensure_future(self._drain())
        return self.drain

    async def _drain(self) -> None:
        await self.drained.wait()

    async def serve(self) -> None:
        with self.server.signals_handled():
            await self.server.serve_until_signal(self.listener, {}, self.ready.set)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                await asyncio.sleep(0)

    async def connect(self, sent: bytes = b"") -> asyncio.StreamReader:
        """Another connection, which the server has accepted, with these bytes on their way."""
        known = len(self.server.server_state.connections)
        reader = await self.open(sent)
        await self.until(lambda: len(self.server.server_state.connections) > known)
        return reader

    async def open(self, sent: bytes) -> asyncio.StreamReader:
        """Another connection, with these bytes on their way."""
        reader, writer = await asyncio.open_connection(*self.address)
        self.writers.append(writer)
        writer.write(sent)
        return reader

    async def stop_listening(self) -> None:
        """A first signal, until nobody new is let in."""
        self.handlers[signal.SIGTERM]()
        self.drained.set()
        await self.until(lambda: not self.server.servers[0].is_serving())


async def ended(served: asyncio.Task[None]) -> bool:
    """Whether it ends by itself: one that is cancelled because it does not would end without an error too."""
    await asyncio.wait({served}, timeout=SECONDS)
    return served.done()


@asynccontextmanager
async def serving(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Place, asyncio.Task[None]]]:
    place, loop = Place(), asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_signal_handler", place.handlers.__setitem__)
    monkeypatch.setattr(loop, "remove_signal_handler", place.handlers.pop)
    served = asyncio.ensure_future(place.serve())
    await place.ready.wait()
    try:
        yield place, served
    finally:
        served.cancel()
        await asyncio.gather(served, return_exceptions=True)
        for writer in place.writers:
            writer.close()
    assert place.handlers == {}


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A server whose patience with open connections never ends."""
    monkeypatch.setattr(graceful, "_LINGER_SECONDS", EVER)
    async with serving(monkeypatch) as running:
        yield running


async def test_both_signals_are_heard_while_it_serves_and_no_longer(running):
    place, served = running
    assert sorted(place.handlers) == sorted(BOTH)
    await place.stop_listening()
    assert await ended(served)
    assert place.handlers == {}


@pytest.mark.parametrize("second", BOTH)
@pytest.mark.parametrize("sent", [b"", b"POST /exec"], ids=["nothing", "half a header"])
async def test_a_second_signal_ends_it_although_someone_is_connected_who_has_asked_for_nothing(running, sent, second):
    place, served = running
    reader = await place.connect(sent)
    await place.stop_listening()
    assert not served.done()
    place.handlers[second]()
    assert await ended(served)
    assert await reader.read() == b""


@pytest.mark.parametrize("second", BOTH)
async def test_a_second_signal_ends_a_drain_and_the_server_with_someone_silent_connected(running, second):
    place, served = running
    reader = await place.connect()
    place.handlers[signal.SIGTERM]()
    place.handlers[second]()
    assert await ended(served)
    assert place.drain.cancelled()
    assert await reader.read() == b""


async def test_a_second_signal_cancels_the_requests_that_still_run(running):
    place, served = running
    await place.connect(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(place.asked.wait(), SECONDS)
    await place.stop_listening()
    assert not served.done()
    place.handlers[signal.SIGTERM]()
    assert await ended(served)
    assert place.requests == ["cancelled"]


async def test_the_first_signal_lets_whoever_is_connected_ask_once_more(running):
    place, served = running
    reader = await place.connect()
    await place.stop_listening()
    place.answer.set()
    place.writers[0].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), SECONDS)).endswith(b'"answered"')
    assert await ended(served)


async def test_a_connection_that_was_answered_does_not_hold_it(running):
    place, served = running
    place.answer.set()
    reader = await place.connect(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b'"answered"'), SECONDS)
    await place.stop_listening()
    assert await ended(served)


async def test_who_was_refused_and_still_sends_does_not_hold_it(running, monkeypatch):
    monkeypatch.setattr(protocol, "SILENCE_SECONDS", EVER)
    monkeypatch.setattr(protocol, "LINGER_SECONDS", EVER)
    place, served = running
    reader = await place.connect(b"not HTTP\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), SECONDS)).startswith(b"HTTP/1.1 400 ")
    await place.stop_listening()
    assert await ended(served)


async def test_an_idle_connection_is_kept_as_long_as_is_set():
    place = Place()
    assert place.server.config.timeout_keep_alive == 75
    server = GracefulServer(FastAPI(), place._begin_drain, receive_seconds=EVER, keep_alive_seconds=0.01)
    ready = asyncio.Event()
    served = asyncio.ensure_future(server.serve_until_signal(place.listener, {}, ready.set))
    await ready.wait()
    reader = await place.open(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"404" in await asyncio.wait_for(reader.read(), SECONDS)
    server.should_exit = True
    await served
    place.writers[0].close()


async def test_who_says_nothing_holds_it_for_two_seconds(monkeypatch):
    now, looks = 100.0, []
    monkeypatch.setattr(graceful, "time", SimpleNamespace(monotonic=lambda: looks.append(now) or now))
    async with serving(monkeypatch) as (place, served):
        await place.connect()
        await place.stop_listening()
        now = 101.99
        await place.until(lambda: looks.count(now) > 1)
        assert not served.done()
        now = 102.0
        assert await ended(served)


MAPPED = "::ffff:127.0.0.1"
"""How 127.0.0.1 looks to a server that listens on an IPv6 address."""


@pytest.mark.parametrize(
    ("listens", "proxies", "told"),
    [
        ("127.0.0.1", (), "127.0.0.1"),
        ("127.0.0.1", ("127.0.0.0/8",), "192.0.2.9"),
        ("127.0.0.1", ("10.0.0.0/8",), "127.0.0.1"),
        (MAPPED, ("127.0.0.0/8",), "192.0.2.9"),
        (MAPPED, ("10.0.0.0/8",), MAPPED),
    ],
)
async def test_who_a_caller_is_does_not_depend_on_a_header_unless_a_proxy_is_trusted(listens, proxies, told):
    app = FastAPI()

    @app.get("/")
    async def who(request: Request) -> str:
        return str(request.client and request.client.host)

    networks = [ip_network(proxy) for proxy in proxies]
    place = Place()
    place.listener.close()
    server = GracefulServer(app, place._begin_drain, receive_seconds=EVER, trusted_proxies=networks)
    ready = asyncio.Event()
    with bind_listener(listens, 0) as listener:
        served = asyncio.ensure_future(server.serve_until_signal(listener, {}, ready.set))
        await ready.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.9\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            answer = await reader.read()
        writer.close()
        server.should_exit = True
        await served
    assert answer.endswith(f'"{told}"'.encode())
