"""Clients that leave, that are slow, that never end, that come in great numbers: over a real server on loopback."""

import asyncio
import json
import socket

import httpx2
import pytest

from codex_server.api.protocol import GuardedProtocol
from tests.api.wire import TOKEN, dripping, request, script, until

pytestmark = pytest.mark.anyio


async def test_a_client_that_leaves_cancels_its_program(serve, dial):
    async with serve(pool_sizes={"python": 0, "javascript": 0}) as door:
        wire = await dial(door)
        await wire.send(request(script("wait never")))
        await until(lambda: door.backend.executions)
        assert len(door.backend.living) == 1
        wire.leave()
        await until(lambda: not door.backend.living)
        assert door.app.state.executor.stats().running == 0
        response = await door.execute("print still here")
        assert response.json()["stdout"] == "still here\n"


async def test_a_client_that_leaves_while_it_waits_for_a_place_frees_the_queue(serve, dial):
    async with serve(max_concurrency=1) as door:
        executor = door.app.state.executor
        runs, waits = await dial(door), await dial(door)
        await runs.send(request(script("wait go")))
        await until(lambda: executor.stats().running == 1)
        await waits.send(request(script("print never run")))
        await until(lambda: executor.stats().queued == 1)
        waits.leave()
        await until(lambda: executor.stats().queued == 0)
        door.backend.event("go").set()
        assert (await runs.response())[0] == 200
        assert len(door.backend.executions) == 1


async def test_a_client_that_leaves_in_the_middle_of_its_body_runs_nothing(serve, caplog, dial):
    caplog.set_level("INFO")
    async with serve() as door:
        wire = await dial(door)
        await wire.send(request(script("print 1"), length=1000))
        await until(lambda: door.app.state.services)
        wire.leave()
        await until(lambda: any(getattr(record, "status", None) == 499 for record in caplog.records))
        assert door.backend.executions == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_body_that_never_ends_is_refused_in_time(serve, dial):
    async with serve(receive_seconds=0.05) as door:
        wire = await dial(door)
        await wire.send(request(b"{", length=1000))
        status, fields, body = await wire.response()
        assert status == 408
        assert fields["content-type"] == "application/problem+json"
        assert json.loads(body)["code"] == "request-timeout"
        await wire.closed()


async def test_a_header_that_never_ends_is_refused_in_time(serve, dial):
    async with serve(receive_seconds=0.05) as door:
        wire = await dial(door)
        await wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        status, fields, body = await wire.response()
        assert status == 408
        assert fields["content-type"] == "application/problem+json"
        assert json.loads(body)["code"] == "request-timeout"
        await wire.closed()


async def test_a_connection_that_says_nothing_is_closed_in_time(serve, dial):
    async with serve(receive_seconds=0.05) as door:
        await (await dial(door)).closed()


async def test_header_body_and_what_nobody_reads_have_the_time_that_is_set_and_no_more(serve, dial, monkeypatch):
    loop, requested = asyncio.get_running_loop(), []
    set_timer, set_timeout = loop.call_later, asyncio.timeout

    def call_later(delay, callback, *args, **how):
        requested.append((getattr(callback, "__name__", ""), delay))
        return set_timer(delay, callback, *args, **how)

    def timeout(delay):
        requested.append(("timeout", delay))
        return set_timeout(delay)

    monkeypatch.setattr(loop, "call_later", call_later)
    monkeypatch.setattr(asyncio, "timeout", timeout)
    async with serve(receive_seconds=77.5) as door:
        wire = await dial(door)
        await wire.send(request(script("print 1")))
        assert (await wire.response())[0] == 200
        await wire.send(b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\nxxx")
        assert (await wire.response())[0] == 401
    assert {delay for name, delay in requested if name == "_header_is_late"} == {77.5}
    assert ("timeout", 77.5) in requested
    assert ("_look", 5.0) in requested


async def test_dripping_empty_lines_does_not_hold_a_connection(serve, dial):
    async with serve(receive_seconds=0.2) as door:
        wire = await dial(door)
        await wire.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await wire.response())[0] == 200
        async with dripping(wire, b"\r\n"):
            await wire.closed()


async def test_a_header_without_measure_is_refused(serve, dial):
    async with serve() as door:
        wire = await dial(door)
        await wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-Much: " + b"y" * 70_000 + b"\r\n\r\n")
        status, _, body = await wire.response()
        assert status == 431
        assert json.loads(body)["code"] == "header-too-large"
        await wire.closed()


async def test_an_address_without_measure_is_refused(serve, dial):
    async with serve() as door:
        wire = await dial(door)
        await wire.send(b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await wire.response())[0] == 431


@pytest.mark.parametrize("sent", [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n"])
async def test_what_is_not_http_is_a_problem(serve, sent, dial):
    async with serve() as door:
        wire = await dial(door)
        await wire.send(sent)
        status, fields, body = await wire.response()
        assert status == 400
        assert fields["content-type"] == "application/problem+json"
        assert json.loads(body)["code"] == "malformed-request"
        await wire.closed()


async def test_a_chunked_body_over_the_cap_is_refused_while_it_comes(serve):
    async with serve(max_body=2048) as door:

        async def chunks():
            for _ in range(1000):
                yield b" " * 1000

        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        response = await door.client.post("/execute", content=chunks(), headers=headers)
        assert response.status_code == 413
        assert response.json()["code"] == "too-large"


async def test_a_chunked_body_is_taken(serve):
    async with serve() as door:

        async def chunks():
            for byte in script("print piece by piece"):
                yield bytes([byte])

        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        response = await door.client.post("/execute", content=chunks(), headers=headers)
        assert response.json()["stdout"] == "piece by piece\n"


async def test_a_refusal_before_the_body_does_not_ask_for_the_body(serve, dial):
    async with serve() as door:
        wire = await dial(door)
        await wire.send(b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\nExpect: 100-continue\r\n\r\n")
        assert (await wire.response())[0] == 401


async def test_a_body_that_nobody_reads_does_not_hold_the_connection(serve, monkeypatch, dial):
    monkeypatch.setattr("codex_server.api.protocol.LINGER_SECONDS", 0.05)
    async with serve() as door:
        wire = await dial(door)
        await wire.send(b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\nxxx")
        assert (await wire.response())[0] == 401
        async with dripping(wire, b"x"):
            await wire.closed()


async def test_after_an_early_refusal_the_connection_serves_on(serve, dial):
    async with serve() as door:
        wire = await dial(door)
        await wire.send(b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
        assert (await wire.response())[0] == 401
        await wire.send(b"x" * 200_000 + request(script("print next")))
        status, _, body = await wire.response()
        assert (status, json.loads(body)["stdout"]) == (200, "next\n")


async def test_head_and_options_over_a_socket_send_no_body(serve, dial):
    async with serve() as door:
        wire = await dial(door)
        await wire.send(b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            head = await wire.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert (await wire.response())[2] == b'{"status":"alive"}'
        await wire.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
        status, fields, _ = await wire.response()
        assert (status, fields["allow"]) == (204, "get, head, options, post")


async def test_no_response_waits_for_an_acknowledgement(serve, dial, monkeypatch):
    seen = []
    made = GuardedProtocol.connection_made

    def note(self, transport):
        made(self, transport)
        seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(GuardedProtocol, "connection_made", note)
    async with serve() as door:
        await dial(door)
        await until(lambda: seen)
    assert seen == [1]


async def test_a_hundred_clients_at_once_all_get_their_own_response(serve):
    async with serve(queue_length=200, max_concurrency=4) as door:
        limits = httpx2.Limits(max_connections=100)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{door.port}", timeout=60, limits=limits) as client:

            async def one(number):
                headers = {"Authorization": f"Bearer {TOKEN}"}
                response = await client.post("/execute", json={"code": f"print {number}"}, headers=headers)
                return response.status_code, response.json()["stdout"]

            responses = await asyncio.gather(*(one(number) for number in range(100)))
        assert responses == [(200, f"{number}\n") for number in range(100)]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(serve):
    async with serve(queue_length=1, max_concurrency=1) as door:
        executor = door.app.state.executor
        calls = [asyncio.ensure_future(door.execute("wait go"))]
        await until(lambda: executor.stats().running == 1)
        calls.append(asyncio.ensure_future(door.execute("wait go")))
        await until(lambda: executor.stats().queued == 1)
        refused = await door.execute("print 1")
        assert refused.status_code == 503
        assert refused.json()["code"] == "busy"
        assert int(refused.headers["retry-after"]) >= 1
        door.backend.event("go").set()
        assert [(await call).status_code for call in calls] == [200, 200]
