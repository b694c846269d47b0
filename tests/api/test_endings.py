"""How connections end: no response is lost because the client still sends, or sends no more. On both event loops."""

import asyncio
import http.client
import json
import socket
import urllib.error
import urllib.request

import pytest

from codex_server.api import protocol
from codex_server.api.connections import Connections
from codex_server.api.transport import Linger
from tests.api.wire import dripping, request, script, until

pytestmark = pytest.mark.anyio
LARGE = b" " * 6_000_000
"""More than the kernel's buffers on both sides hold."""
REFUSED = {
    401: {"token": "codex_wrong"},
    415: {"more": "Content-Encoding: gzip\r\n"},
    413: {"length": 900_000_000},
}


@pytest.fixture(params=["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return request.param


async def test_a_refusal_arrives_although_the_connection_will_be_closed(serve, dial):
    async with serve() as door:
        for status, how in REFUSED.items():
            for ending in ({"more": "Connection: close\r\n"}, {"version": "1.0"}):
                wire = await dial(door)
                await wire.send(request(LARGE, **ending | how | {"more": ending.get("more", "") + how.get("more", "")}))
                response = await wire.response()
                assert (response[0], response[1]["connection"]) == (status, "close")
                assert await wire.rest() == b""  # the server has ended, and said so


async def test_urllib_and_http_client_hear_why_they_are_refused(serve):
    def with_urllib(port):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/execute", data=LARGE, timeout=20)
        with refused.value as response:
            return json.load(response)["code"]

    def with_chunks(port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("POST", "/execute", iter([LARGE] * 3), {"Connection": "close"}, encode_chunked=True)
        with connection.getresponse() as response:
            return json.load(response)["code"]

    async with serve() as door:
        for client in (with_urllib, with_chunks):
            assert await asyncio.to_thread(client, door.port) == "unauthenticated"


@pytest.mark.parametrize("more", ["Connection: close\r\n", ""], ids=["closed", "kept"])
@pytest.mark.parametrize("limit", ["LINGER_SECONDS", "SILENCE_SECONDS"])
async def test_a_client_that_never_ends_is_hung_up_on(serve, dial, monkeypatch, limit, more):
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 1000)
    monkeypatch.setattr(protocol, "SILENCE_SECONDS", 1000)
    monkeypatch.setattr(protocol, limit, 0.05)
    async with serve() as door:
        wire = await dial(door)
        await wire.send(request(b"x", length=900_000_000, token="wrong", more=more))
        assert (await wire.response())[0] == 401
        if limit == "LINGER_SECONDS":
            async with dripping(wire, b"x"):
                await wire.gone()
        else:
            await wire.closed()


async def test_what_cannot_be_read_is_refused_once_and_the_client_hears_it(serve, dial):
    async with serve() as door:
        for refused in (b"POST /execute HTTP/1.1\r\n\r\n", b"x\r\n\r\n", b"GET /" + b"y" * 70_000):
            wire = await dial(door)
            await wire.send(refused + LARGE)
            responses = await wire.rest()
            assert responses.count(b"\r\n\r\n") == 1
            assert responses.startswith(b"HTTP/1.1 4")


async def test_whoever_is_refused_a_connection_hears_it_although_it_sends(serve, dial):
    class Full(Connections):
        def admit(self, connection, address):
            return False

    async with serve(connections=Full(1, 1)) as door:
        wire = await dial(door)
        await wire.send(request(LARGE))
        assert (await wire.response())[0] == 503


async def test_a_body_that_is_sent_only_when_invited_is_not_waited_for_after_a_refusal(serve, dial):
    async with serve() as door:
        wire = await dial(door)
        await wire.send(request(b"", length=100, token="wrong", more="Expect: 100-continue\r\n"))
        status, fields, _ = await wire.response()
        assert (status, fields["connection"]) == (401, "close")
        invited = await dial(door)
        body = script("print asked")
        await invited.send(request(b"", length=len(body), more="Expect: 100-continue\r\n"))
        assert (await invited.response())[0] == 100
        await invited.send(body)
        status, fields, response = await invited.response()
        assert (status, json.loads(response)["stdout"]) == (200, "asked\n")
        assert "connection" not in fields


async def test_lingering_connections_keep_nobody_out(serve, dial):
    known = Connections(most=2, most_of_one=1, lingering=Connections(most=4, most_of_one=3))
    async with serve(connections=known) as door:
        lingering = []
        for _ in range(5):
            lingering.append(wire := await dial(door))
            await wire.send(request(b"x", length=1000, token="wrong", more="Connection: close\r\n"))
            assert (await wire.response())[0] == 401
            await until(lambda: len(known) == 0)
        assert len(known.lingering) == 3
        await lingering[0].gone()
        wire = await dial(door)
        await wire.send(request(script("print served")))
        assert (await wire.response())[0] == 200
    assert len(known) == len(known.lingering) == 0


async def test_a_half_closed_connection_gets_its_response(serve, dial):
    async with serve() as door:
        for number, version in enumerate(["1.1", "1.0"], 1):
            wire = await dial(door)
            await wire.send(request(script(f"wait {number}"), version=version))
            wire.send_no_more()
            await until(lambda: len(door.backend.executions) == number)  # noqa: B023 - awaited here
            assert await wire.reader.readexactly(5) == b"HTTP/"  # sent ahead, to find out whether the client has left
            door.backend.event(f"{number}").set()
            status, fields, _ = await wire.response()
            assert (status, fields["connection"]) == (200, "close")
            assert await wire.rest() == b""


async def test_every_request_before_a_half_close_gets_a_response(serve, dial):
    async with serve() as door:
        wire = await dial(door)
        await wire.send(
            request(script("wait go")) + request(script("print 2")) + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        wire.send_no_more()
        await until(lambda: door.backend.executions)
        door.backend.event("go").set()
        assert [(await wire.response())[0] for _ in range(3)] == [200, 200, 200]
        assert await wire.rest() == b""


async def test_a_client_that_leaves_while_another_request_of_it_waits_cancels_both(serve, dial):
    async with serve(pool_sizes={"python": 0, "javascript": 0}) as door:
        wire = await dial(door)
        await wire.send(request(script("wait never")) + request(script("print 2")))
        await until(lambda: door.backend.executions)
        wire.leave()
        await until(lambda: not door.backend.living)
        assert len(door.backend.executions) == 1


async def test_a_client_that_closes_cancels_its_program(serve):
    async with serve(pool_sizes={"python": 0, "javascript": 0}) as door:
        with socket.create_connection(("127.0.0.1", door.port)) as client:
            client.sendall(request(script("wait never")))
            await until(lambda: door.backend.executions)
        await until(lambda: not door.backend.living)


async def test_the_refusal_of_a_later_request_waits_for_the_responses_before_it(serve, dial):
    async with serve() as door:
        wire = await dial(door)
        await wire.send(request(script("wait go")) + b"not HTTP\r\n\r\n")
        await until(lambda: door.backend.executions)
        door.backend.event("go").set()
        assert [(await wire.response())[0] for _ in range(2)] == [200, 400]
        assert await wire.rest() == b""


@pytest.mark.parametrize("before", ["", "wait go"], ids=["alone", "behind another"])
async def test_a_body_that_breaks_off_in_rubbish_is_refused_once(serve, dial, before):
    broken = b"POST /execute HTTP/1.1\r\nHost: x\r\n%sTransfer-Encoding: chunked\r\n\r\nrubbish\r\n"
    head = request(b"").split(b"\r\n")[2:4]
    async with serve() as door:
        wire = await dial(door)
        if before:
            await wire.send(request(script(before)))
            await until(lambda: door.backend.executions)
        await wire.send(broken % (b"\r\n".join(head) + b"\r\n"))
        if before:
            await asyncio.sleep(0)
            door.backend.event("go").set()
            assert (await wire.response())[0] == 200
        assert (await wire.response())[0] == 400
        assert await wire.rest() == b""


async def test_an_empty_line_after_a_body_does_not_end_its_program(serve, dial):
    async with serve(receive_seconds=0.05) as door:
        wire = await dial(door)
        await wire.send(request(script("wait go")))
        await until(lambda: door.backend.executions)
        await wire.send(b"\r\n")
        await (await dial(door)).closed()  # it said nothing for longer than a header may take
        door.backend.event("go").set()
        assert (await wire.response())[0] == 200


class Clock:
    """An event loop's clock, wound by hand."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def time(self):
        return self.now

    def call_later(self, seconds, call):
        return self.call_at(self.now + seconds, call)

    def call_at(self, when, call):
        handle = type("Handle", (), {"cancel": lambda _: self.calls.remove(entry) if entry in self.calls else None})()
        entry = (when, call)
        self.calls.append(entry)
        return handle

    def wind(self, seconds):
        until_ = self.now + seconds
        while due := [entry for entry in self.calls if entry[0] <= until_]:
            first = min(due, key=lambda entry: entry[0])
            self.calls.remove(first)
            self.now = first[0]
            first[1]()
        self.now = until_


def test_a_slow_sender_has_thirty_seconds_and_a_silent_one_five():
    def ended_after(heard_every):
        clock, ends = Clock(), []
        linger = Linger(clock, 30, 5, lambda: ends.append(clock.now))
        while not ends:
            clock.wind(heard_every)
            linger.received()
        return ends[0]

    assert [ended_after(seconds) for seconds in (1, 4, 7, 100)] == [30, 30, 5, 5]
