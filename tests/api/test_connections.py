"""Connections are bounded in all and for each address; an idle one gives way to a new one."""

import asyncio
import socket
from ipaddress import ip_network

import httpx2
import pytest

from codex_server.api.connections import Connections
from codex_server.networks import with_mapped
from tests.api.wire import request, until

pytestmark = pytest.mark.anyio


class Line:
    """A connection that notes whether it was closed."""

    def __init__(self, idle: bool = True, waiting: bool = False) -> None:
        self.idle = idle
        self.waiting = waiting
        self.closed = False

    def close(self) -> None:
        self.closed = True


async def test_the_oldest_idle_connection_of_an_address_gives_way_to_its_new_one():
    known = Connections(most=10, most_of_one=2)
    busy, idle, newest = Line(idle=False), Line(), Line()
    assert [known.admit(line, "192.0.2.1") for line in (busy, idle, newest)] == [True] * 3
    assert (busy.closed, idle.closed, newest.closed, len(known)) == (False, True, False, 2)


async def test_where_none_is_idle_the_new_one_is_refused():
    known = Connections(most=10, most_of_one=2)
    lines = [Line(idle=False) for _ in range(3)]
    assert [known.admit(line, "192.0.2.1") for line in lines] == [True, True, False]
    assert known.admit(Line(), "192.0.2.2")
    known.forget(lines[0], "192.0.2.1")
    assert known.admit(lines[2], "192.0.2.1")


async def test_the_address_with_the_most_gives_way_when_there_are_too_many_in_all():
    known = Connections(most=4, most_of_one=3)
    clients, other = [Line() for _ in range(3)], Line()
    for line in clients:
        assert known.admit(line, "192.0.2.1")
    assert known.admit(other, "192.0.2.2")
    assert known.admit(Line(), "192.0.2.3")
    assert ([line.closed for line in clients], other.closed) == ([True, False, False], False)


async def test_a_proxy_speaks_for_many_and_counts_only_in_all():
    known = Connections(most=4, most_of_one=1, proxies=[ip_network("192.0.2.0/24")])
    assert [known.admit(Line(idle=False), "192.0.2.1") for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("descriptors", "most", "most_of_one"), [(1024, 512, 256), (2**20, 10_000, 5000), (4, 2, 1), (1, 2, 1)]
)
async def test_half_of_the_descriptors_are_left_to_sandboxes(descriptors, most, most_of_one):
    known = Connections.within(descriptors)
    assert (known.most, known.most_of_one) == (most, most_of_one)


async def test_the_one_that_was_used_last_is_the_last_to_give_way():
    known = Connections(most=10, most_of_one=2)
    first, second = Line(), Line()
    assert known.admit(first, "192.0.2.1") and known.admit(second, "192.0.2.1")
    known.rest(first, "192.0.2.1")
    assert known.admit(Line(), "192.0.2.1")
    assert (first.closed, second.closed, len(known)) == (False, True, 2)


@pytest.mark.parametrize(("most", "most_of_one", "newcomer"), [(4, 4, "192.0.2.2"), (9, 4, "192.0.2.1")])
async def test_where_none_is_idle_one_that_waits_for_its_client_gives_way(most, most_of_one, newcomer):
    known = Connections(most=most, most_of_one=most_of_one)
    lines = [Line(idle=False), *[Line(idle=False, waiting=True) for _ in range(3)]]
    assert all(known.admit(line, "192.0.2.1") for line in lines)
    assert known.admit(Line(idle=False), newcomer)
    assert [line.closed for line in lines] == [False, True, False, False]


async def test_an_idle_one_of_any_address_gives_way_before_a_new_one_is_refused():
    known = Connections(most=3, most_of_one=3)
    busy, idle = [Line(idle=False) for _ in range(2)], Line()
    assert [known.admit(line, "192.0.2.1") for line in busy] == [True, True]
    assert known.admit(idle, "192.0.2.2")
    assert known.admit(Line(idle=False), "192.0.2.3")
    assert idle.closed
    assert not known.admit(Line(), "192.0.2.4")


@pytest.mark.parametrize(
    ("addresses", "callers"),
    [
        (["2001:db8::1", "2001:db8::2", "2001:db8::ffff"], 1),
        (["2001:db8::1", "2001:db8:0:1::1"], 2),
        (["192.0.2.1", "::ffff:192.0.2.1"], 1),
        (["fe80::1%eth0", "fe80::2%eth0"], 1),
        (["", "::1"], 2),
    ],
)
async def test_one_callers_addresses_count_together(addresses, callers):
    known = Connections(most=10, most_of_one=1)
    assert all(known.admit(Line(), address) for address in addresses)
    assert len(known) == callers


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3"])
async def test_a_proxy_is_known_by_either_form_of_its_address(address):
    known = Connections(most=4, most_of_one=1, proxies=with_mapped([ip_network("10.0.0.0/8")]))
    assert [known.admit(Line(idle=False), address) for _ in range(3)] == [True] * 3


HALF_SENT = {
    "nothing": b"",
    "half a header": b"POST /execute HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "half a body": request(b"{", length=1000),
    "half a refused body": request(b"{", length=1000, token="wrong"),
    "half a refused body, to be closed": request(b"{", length=1000, token="wrong", more="Connection: close\r\n"),
    "a whole request": b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("proxies", [(), [ip_network("127.0.0.1")]], ids=["a caller", "a trusted proxy"])
async def test_another_caller_is_served_whatever_one_address_holds_open(serve, proxies):
    def connect(sent, address):
        connection = socket.create_connection(("127.0.0.1", door.port), source_address=(address, 0))
        connection.sendall(sent)
        opened.append(connection)

    async def ask(address):
        async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(local_address=address)) as client:
            return (await client.get(f"http://127.0.0.1:{door.port}/livez")).status_code

    known, opened = Connections.within(40, proxies), []
    async with serve(connections=known) as door:
        for sent in HALF_SENT.values():
            for _ in range(30):
                connect(sent, "127.0.0.1")
                await asyncio.sleep(0)
            assert await ask("127.0.0.2") == 200
            assert await ask("127.0.0.1") == 200
        assert len(known) <= known.most
        for connection in opened:
            connection.close()
        await until(lambda: len(known) == 0)


async def test_a_connection_is_idle_since_its_last_response(serve, dial):
    known = Connections(most=8, most_of_one=2)
    async with serve(connections=known) as door:
        first, second = await dial(door), await dial(door)
        await until(lambda: len(known) == 2)
        await first.send(HALF_SENT["a whole request"])
        assert (await first.response())[0] == 200
        await dial(door)
        await second.closed()
        await first.send(HALF_SENT["a whole request"])
        assert (await first.response())[0] == 200


async def test_where_every_connection_is_busy_a_new_one_hears_why_it_is_refused(serve):
    class Full(Connections):
        def admit(self, connection, address):
            return False

    async with serve(connections=Full(1, 1)) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        async with asyncio.timeout(10):
            response = await reader.read()
        writer.close()
    assert response.startswith(b"HTTP/1.1 503 ")
    assert b"too many connections" in response
    assert b'"code":"unavailable"' in response
    assert b"\r\nretry-after: 1\r\n" in response
