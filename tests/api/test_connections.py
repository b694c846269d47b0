"""Connections are bounded in all and for each address; an idle one gives way to a new one."""

import asyncio
import socket
from ipaddress import ip_network

import httpx2
import pytest

from codex_server.api.connections import Connections

pytestmark = pytest.mark.anyio


class Line:
    """A connection that notes whether it was closed."""

    def __init__(self, idle: bool = True) -> None:
        self.idle = idle
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
    crowd, other = [Line() for _ in range(3)], Line()
    for line in crowd:
        assert known.admit(line, "192.0.2.1")
    assert known.admit(other, "192.0.2.2")
    assert known.admit(Line(), "192.0.2.3")
    assert ([line.closed for line in crowd], other.closed) == ([True, False, False], False)


async def test_a_proxy_speaks_for_many_and_counts_only_in_all():
    known = Connections(most=4, most_of_one=1, proxies=[ip_network("192.0.2.0/24")])
    assert [known.admit(Line(idle=False), "192.0.2.1") for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("descriptors", "most", "most_of_one"), [(1024, 512, 256), (2**20, 10_000, 5000), (4, 2, 1), (1, 2, 1)]
)
async def test_half_of_the_descriptors_are_left_to_sandboxes(descriptors, most, most_of_one):
    known = Connections.within(descriptors)
    assert (known.most, known.most_of_one) == (most, most_of_one)


async def test_callers_are_answered_however_many_idle_connections_one_address_opens(serve):
    known = Connections(most=8, most_of_one=4)
    async with serve(connections=known) as door:
        idle = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(30)]
        try:
            for _ in range(5):
                async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{door.port}") as client:
                    answer = await client.get("/livez")
                assert answer.status_code == 200
            assert len(known) <= 4
        finally:
            for connection in idle:
                connection.close()
    assert len(known) == 0


async def test_where_every_connection_is_busy_a_new_one_hears_why_it_is_refused(serve):
    class Full(Connections):
        def admit(self, connection, address):
            return False

    async with serve(connections=Full(1, 1)) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"too many connections" in answer
