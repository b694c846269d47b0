"""``POST /execute/stream`` on a real socket: what happens is on the wire when it happens."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from codex_server.api import stream
from tests.api.conftest import BEARER

pytestmark = pytest.mark.anyio
LINES = {"Accept": "application/x-ndjson"}


@asynccontextmanager
async def following(door, code, *, headers=LINES, **fields):
    """The response, as its first byte comes."""
    sent = door.client.stream("POST", "/execute/stream", json={"code": code, **fields}, headers=BEARER | headers)
    async with sent as response:
        yield response


async def lines(response):
    async for line in response.aiter_lines():
        yield json.loads(line)


async def all_lines(door, code, **fields):
    async with following(door, code, **fields) as response:
        assert response.status_code == 200, await response.aread()
        return [line async for line in lines(response)]


async def test_each_event_is_on_the_wire_before_the_next_one_happens(serve):
    async with serve() as door, following(door, "print a\nwait go\nerror b\nwrite out.txt x\nexit 3") as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-store", "no")
        assert "x-request-id" in response.headers
        events = lines(response)
        started, printed = await anext(events), await anext(events)
        assert (started["id"], started["type"], printed) == (1, "started", {"id": 2, "type": "stdout", "text": "a\n"})
        door.backend.event("go").set()
        rest = [event async for event in events]
        assert rest[0] == {"id": 3, "type": "stderr", "text": "b\n"}
        file = {"path": "out.txt", "size": 1, "media_type": "text/plain", "content": "x", "encoding": "utf-8"}
        assert rest[1] == {"id": 4, "type": "file", **file}
        finished = rest[2]
        assert (finished["type"], finished["status"], finished["exit_code"]) == ("finished", "failed", 3)
        assert finished["execution_id"] == started["execution_id"]
        assert not {"stdout", "stderr", "output"} & finished.keys()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/x-ndjson;q=0.5, text/event-stream", "text/event-stream"),
        ("application/x-ndjson; q=0", "text/event-stream"),
        ("application/x-ndjsonx, */*", "text/event-stream"),
        ("text/event-stream;q=0.3, Application/X-NDJSON;q=0.3", "application/x-ndjson"),
        ("text/event-stream;q=0.9, application/x-ndjson", "application/x-ndjson"),
        ("*/*;q=0.1, application/x-ndjson;charset=utf-8;q=0.2", "application/x-ndjson"),
    ],
)
async def test_the_form_is_the_one_that_the_client_prefers(serve, accept, kind):
    async with serve() as door, following(door, "print a", headers={"Accept": accept}) as response:
        assert response.headers["content-type"].partition(";")[0] == kind


async def test_the_last_event_is_the_response_of_execute(serve):
    async with serve() as door:
        *_, finished = await all_lines(door, "print a\nerror b")
        whole = (await door.execute("print a\nerror b")).json()
        assert finished.keys() - {"id", "type"} == whole.keys() - {"stdout", "stderr", "output"}
        assert finished["error"] == whole["error"]


async def test_by_default_they_are_server_sent_events(serve):
    async with serve() as door, following(door, "print a\nprint ü", headers={}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = (await response.aread()).decode().split("\n\n")
    assert events[1] == 'id: 2\nevent: stdout\ndata: {"text":"a\\n"}'
    assert events[2] == 'id: 3\nevent: stdout\ndata: {"text":"ü\\n"}'
    assert events[3].startswith("id: 4\nevent: finished\ndata: {")
    assert events[4:] == [""]


async def test_what_is_refused_is_a_plain_problem(serve):
    async with serve(max_concurrency=1, queue_length=0) as door:
        for fields, status in (({"code": ""}, 400), ({"code": "x", "language": "pyton"}, 400), ({"cod": "x"}, 422)):
            refused = await door.client.post("/execute/stream", json=fields, headers=BEARER)
            assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
        assert (await door.client.post("/execute/stream", json={"code": "print"})).status_code == 401
        async with following(door, "wait go") as response:
            busy = await door.client.post("/execute/stream", json={"code": "print"}, headers=BEARER)
            assert (busy.status_code, busy.json()["code"], "retry-after" in busy.headers) == (503, "busy", True)
            door.backend.event("go").set()
            await response.aread()


async def test_a_key_for_repetition_is_refused_for_nothing_is_kept(serve):
    async with serve() as door:
        refused = await door.client.post(
            "/execute/stream", json={"code": "print"}, headers=BEARER | {"Idempotency-Key": "k"}
        )
        assert (refused.status_code, door.backend.executions) == (422, [])


async def test_a_sandbox_that_is_lost_ends_the_stream_with_a_problem(serve):
    async with serve() as door:
        *_, printed, problem = await all_lines(door, "print a\ndie")
        assert printed["text"] == "a\n"
        assert (problem["type"], problem["code"], problem["status"]) == ("problem", "sandbox-fault", 500)
        async with following(door, "die", headers={}) as response:
            assert b"event: problem\ndata: {" in await response.aread()


async def test_whoever_leaves_cancels(serve):
    async with serve() as door:
        async with following(door, "print a\nwait never") as response:
            assert [await anext(events := lines(response)), await anext(events)][1]["text"] == "a\n"
            assert len(door.backend.living) >= 1
        async with asyncio.timeout(10):
            while door.app.state.executor.stats().running:
                await asyncio.sleep(0.01)


async def test_one_who_leaves_while_waiting_for_a_place_takes_none(serve):
    async with serve(max_concurrency=1, queue_length=1) as door, following(door, "wait go") as response:
        waiting = asyncio.ensure_future(all_lines(door, "print never"))
        executor = door.app.state.executor
        async with asyncio.timeout(10):
            while not executor.stats().queued:
                await asyncio.sleep(0.01)
            waiting.cancel()
            while executor.stats().queued:
                await asyncio.sleep(0.01)
        door.backend.event("go").set()
        await response.aread()
        assert len(door.backend.executions) == 1


@pytest.mark.parametrize(("headers", "ping"), [(LINES, '{"type":"ping"}'), ({}, ": ping")])
async def test_a_silent_stream_says_that_it_lives(headers, ping, serve, monkeypatch):
    monkeypatch.setattr(stream, "PING_SECONDS", 0.01)
    async with serve() as door, following(door, "wait go", headers=headers) as response:
        read = response.aiter_lines()
        while await anext(read) != ping:
            pass
        door.backend.event("go").set()
        assert [line for line in [line async for line in read] if "finished" in line]


async def test_a_reader_that_stops_reading_neither_slows_the_program_nor_loses_without_a_gap(serve):
    size = 32 * 2**20
    async with serve(max_flood=2 * size) as door, following(door, f"flood {size}\nwrite done x") as response:
        async with asyncio.timeout(60):  # the program ends although nobody reads
            while door.app.state.executor.stats().running:
                await asyncio.sleep(0.01)
        events = [event async for event in lines(response)]
    text = sum(len(event["text"].encode()) for event in events if event["type"] == "stdout")
    gaps = [event for event in events if event["type"] == "gap"]
    assert gaps
    assert {event["stream"] for event in gaps} == {"stdout"}
    assert text + sum(event["bytes"] for event in gaps) == size == events[-1]["usage"]["stdout_bytes"]
    assert events[-1]["truncated"] == {"stdout": True, "stderr": False}


async def test_what_was_sent_whole_is_not_said_to_be_truncated_though_a_response_could_not_hold_it(serve):
    async with serve(max_response=10_000, max_output=2**16) as door:
        *_, finished = await all_lines(door, "flood 30000")
        assert finished["truncated"] == {"stdout": False, "stderr": False}
        assert (await door.execute("flood 30000")).json()["truncated"] == {"stdout": True, "stderr": False}


async def test_a_client_that_sends_no_more_still_gets_every_event(serve):
    async with serve() as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        body = b'{"code": "print a\\nwait go\\nprint b"}'
        head = f"POST /execute/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}\r\n"
        fields = (
            f"Accept: application/x-ndjson\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + fields.encode() + body)
        writer.write_eof()
        await reader.readuntil(b'"a\\n"}')
        door.backend.event("go").set()
        assert b'"finished"' in await reader.read()
        writer.close()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_client_that_knows_no_chunks_gets_none(version, serve):
    async with serve() as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        body = b'{"code": "print a"}'
        head = f"POST /execute/stream HTTP/{version}\r\nHost: x\r\nConnection: close\r\n"
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Authorization: {BEARER['Authorization']}\r\n{fields}\r\n".encode() + body)
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        assert (b"chunked" in head) is (version == "1.1")
        assert content.startswith(b"id: 1\n") is (version == "1.0")
        assert b"event: finished" in content
        writer.close()
