"""What is HTTP and what is not: the bytes of requests, and how many responses of which kind they get."""

import asyncio
import json

import pytest
import uvicorn
from uvicorn.server import ServerState

from codex_server.api import protocol, transport
from codex_server.api.protocol import guarded
from tests.api.wire import Memory

pytestmark = pytest.mark.anyio
OK, HOST = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "Host: x\r\n"
POST = f"POST / HTTP/1.1\r\n{HOST}"
UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
WEBSOCKET = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
BODY = "Content-Length: 3\r\n\r\nabc"
CHUNKED = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

TAKEN = {
    "plain": (OK, ["GET / "]),
    "empty lines before": (f"\r\n\r\n{OK}", ["GET / "]),
    "absolute-form": (f"GET http://other:1/a?b=c HTTP/1.1\r\n{HOST}\r\n", ["GET /a?b=c "]),
    "absolute-form without a path": (f"GET HTTP://other HTTP/1.1\r\n{HOST}\r\n", ["GET / "]),
    "asterisk-form": (f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n", ["OPTIONS * "]),
    "two slashes": (f"GET //evil/x HTTP/1.1\r\n{HOST}\r\n", ["GET //evil/x "]),
    "HTTP/1.0 without Host": ("GET / HTTP/1.0\r\n\r\n", ["GET / "]),
    "an empty Host": ("GET / HTTP/1.1\r\nHost:\r\n\r\n", ["GET / "]),
    "an IPv6 Host": ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", ["GET / "]),
    "an underscore in a name": (f"GET / HTTP/1.1\r\n{HOST}X_Y: a\r\nHost_Name: b\r\n\r\n", ["GET / "]),
    "a body": (POST + BODY, ["POST / abc"]),
    "chunks": (POST + CHUNKED, ["POST / abc"]),
    "chunks in capitals": (POST + CHUNKED.replace("chunked", "Chunked"), ["POST / abc"]),
    "a chunk extension": (POST + CHUNKED.replace("3\r\n", "3;a=b\r\n"), ["POST / abc"]),
    "asking before the body in HTTP/1.0": (f"POST / HTTP/1.0\r\n{HOST}Expect: 100-continue\r\n{BODY}", ["POST / abc"]),
    "two at once": (POST + BODY + OK, ["POST / abc", "GET / "]),
    "h2c": (POST + UPGRADE + BODY, ["POST / abc"]),
    "h2c with chunks": (POST + UPGRADE + CHUNKED, ["POST / abc"]),
    "h2c without a body": (OK.replace("\r\n\r\n", f"\r\n{UPGRADE}\r\n"), ["GET / "]),
    "h2c, and another request": (POST + UPGRADE + BODY + POST + UPGRADE + BODY + OK, ["POST / abc"] * 2 + ["GET / "]),
    "websocket with a body": (POST + WEBSOCKET + BODY, ["POST / abc"]),
    "websocket": (OK.replace("\r\n\r\n", f"\r\n{WEBSOCKET}\r\n"), ["GET / "]),
}
REFUSED = {
    "no Host": ("GET / HTTP/1.1\r\n\r\n", 400, "Host"),
    "two Hosts": (f"GET / HTTP/1.1\r\n{HOST}{HOST}\r\n", 400, "Host"),
    "two Hosts in HTTP/1.0": (f"GET / HTTP/1.0\r\n{HOST}{HOST}\r\n", 400, "Host"),
    "a Host that is a list": ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, "Host"),
    "a Host that is a URL": ("GET / HTTP/1.1\r\nHost: http://a/\r\n\r\n", 400, "Host"),
    "another coding": (f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "chunked"),
    "another coding alone": (f"{POST}Transfer-Encoding: gzip\r\n\r\n", 501, "chunked"),
    "identity": (f"{POST}Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", 400, "Transfer-Encoding"),
    "chunked twice": (f"{POST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"),
    "two codings": (f"{POST}Transfer-Encoding: chunked\r\n{CHUNKED}", 400, "Transfer-Encoding"),
    "chunks in HTTP/1.0": (f"POST / HTTP/1.0\r\n{CHUNKED}", 400, "HTTP/1.0"),
    "length and chunks": (f"{POST}Content-Length: 3\r\n{CHUNKED}", 400, "Content-Length"),
    "chunks and length": (f"{POST}Transfer-Encoding: chunked\r\n{BODY}", 400, "Transfer-Encoding"),
    "h2c with length and chunks": (f"{POST}{UPGRADE}Content-Length: 3\r\n{CHUNKED}", 400, "Content-Length"),
    "two lengths": (f"{POST}Content-Length: 3\r\n{BODY}", 400, "Content-Length"),
    "a list of lengths": (f"{POST}Content-Length: 3, 3\r\n\r\nabc", 400, "Content-Length"),
    "a signed length": (f"{POST}Content-Length: +3\r\n\r\nabc", 400, "Content-Length"),
    "a negative length": (f"{POST}Content-Length: -3\r\n\r\nabc", 400, "Content-Length"),
    "an empty length": (f"{POST}Content-Length:\r\n\r\nabc", 400, "Content-Length"),
    "a huge length": (f"{POST}Content-Length: {'9' * 30}\r\n\r\nabc", 400, "Content-Length"),
    "a chunk of no number": (POST + CHUNKED.replace("3\r\n", "0x3\r\n"), 400, "chunk"),
    "a chunk that is too long": (POST + CHUNKED.replace("abc", "abcd"), 400, "chunk"),
    "a huge chunk": (POST + CHUNKED.replace("3\r\n", "f" * 20 + "\r\n"), 400, "hunk"),
    "a folded field": (f"GET / HTTP/1.1\r\n{HOST}X: a\r\n b\r\n\r\n", 400, "whitespace"),
    "a space before the colon": (f"GET / HTTP/1.1\r\n{HOST}X : a\r\n\r\n", 400, "header token"),
    "a space before the first field": ("GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400, "space"),
    "no colon": (f"GET / HTTP/1.1\r\n{HOST}X\r\n\r\n", 400, "header token"),
    "no name": (f"GET / HTTP/1.1\r\n{HOST}: a\r\n\r\n", 400, "header token"),
    "a NUL": (f"GET / HTTP/1.1\r\n{HOST}X: a\0b\r\n\r\n", 400, "value char"),
    "a bare line feed": (f"GET / HTTP/1.1\r\n{HOST}X: a\nY: b\r\n\r\n", 400, "CR"),
    "a bare carriage return": (f"GET / HTTP/1.1\r\n{HOST}X: a\rb\r\n\r\n", 400, "LF"),
    "a method in small letters": (f"get / HTTP/1.1\r\n{HOST}\r\n", 400, "capitals"),
    "a method that there is not": (f"FOO / HTTP/1.1\r\n{HOST}\r\n", 400, "method"),
    "CONNECT": (f"CONNECT a:1 HTTP/1.1\r\n{HOST}\r\n\x16\x03\x01", 501, "proxy"),
    "an asterisk for GET": (f"GET * HTTP/1.1\r\n{HOST}\r\n", 400, "path"),
    "another scheme": (f"GET ftp://x/y HTTP/1.1\r\n{HOST}\r\n", 400, "path"),
    "a relative path": (f"GET a HTTP/1.1\r\n{HOST}\r\n", 400, "url"),
    "a space in the path": (f"GET /a b HTTP/1.1\r\n{HOST}\r\n", 400, "HTTP"),
    "HTTP/2 at once": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\4\0\0\0\0\0", 505, "HTTP/2"),
    "HTTP/2 in words": (f"GET / HTTP/2.0\r\n{HOST}\r\n", 505, "HTTP/2.0"),
    "HTTP/0.9": ("GET /\r\n\r\n", 505, "HTTP/0.9"),
    "HTTP/9.9": (f"GET / HTTP/9.9\r\n{HOST}\r\n", 400, "version"),
    "TLS": ("\x16\x03\x01\x02\0\1\0\1\xfc\3\3", 400, "https"),
}


async def echo(scope, receive, send):
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    else:
        return
    query = f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
    text = f"{scope['method']} {scope['path']}{query} {body.decode()}".encode()
    assert not [name for name, _ in scope["headers"] if name in (b"upgrade", b"http2-settings", b"x-trailer")]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture
async def exchange():
    """Hand these bytes to the protocol, in pieces of so many, and return statuses and bodies of the responses."""
    connections = []

    async def exchange_(text, piece):
        config = uvicorn.Config(echo, log_config=None, ws="none")
        connection, client = guarded(20)(config, ServerState(), {}), Memory()
        connections.append(connection)
        client.protocol = connection
        connection.connection_made(client)
        data = text.encode("latin-1")
        for start in range(0, len(data), piece):
            if not client.closed:
                connection.data_received(data[start : start + piece])
        await a_while()
        return list(responses(client.sent)), client

    yield exchange_
    for connection in connections:
        connection.connection_lost(None)


async def a_while():
    """As many turns of the event loop as a response takes, and more."""
    for _ in range(50):
        await asyncio.sleep(0)


def responses(sent):
    while sent:
        head, _, rest = sent.partition(b"\r\n\r\n")
        length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))[15:])
        yield int(head.split()[1]), rest[:length].decode()
        sent = rest[length:]


@pytest.mark.parametrize("piece", [10**6, 1], ids=["whole", "by bytes"])
@pytest.mark.parametrize("name", TAKEN)
async def test_what_keeps_the_rules_is_taken_and_gets_one_response(exchange, name, piece):
    sent, expected = TAKEN[name]
    found, _ = await exchange(sent, piece)
    assert found == [(200, text) for text in expected]


@pytest.mark.parametrize("piece", [10**6, 1], ids=["whole", "by bytes"])
@pytest.mark.parametrize("name", REFUSED)
async def test_what_breaks_a_rule_gets_one_refusal_that_names_it(exchange, caplog, name, piece):
    caplog.set_level("INFO")
    sent, status, word = REFUSED[name]
    found, client = await exchange(sent + OK, piece)
    assert [number for number, _ in found] == [status]
    problem = json.loads(found[0][1])
    assert word in problem["detail"]
    assert [record.request_id for record in caplog.records] == [problem["instance"]]
    assert client.ended


async def test_a_field_after_the_body_is_no_part_of_the_request(exchange):
    found, _ = await exchange(POST + CHUNKED.replace("0\r\n\r\n", "0\r\nX-Trailer: a\r\n\r\n") + OK, 10**6)
    assert found == [(200, "POST / abc"), (200, "GET / ")]


async def test_what_comes_after_a_refusal_is_received_and_dropped(exchange, monkeypatch):
    received = []
    monkeypatch.setattr(protocol.Linger, "received", lambda _: received.append(1))
    found, _ = await exchange(f"x{OK}", 5)
    assert [status for status, _ in found] == [400]
    assert len(received) == 5  # pieces after the first


async def test_a_client_that_takes_no_response_is_hung_up_on_in_time(exchange, monkeypatch):
    monkeypatch.setattr(transport, "FLUSH_SECONDS", 0)
    _, client = await exchange(OK, 10**6)
    assert not client.closed
    client.protocol.pause_writing()
    client.protocol.resume_writing()
    await a_while()
    assert not client.closed
    client.protocol.pause_writing()
    await a_while()
    assert client.closed == "at once"


async def test_the_rest_of_a_last_response_has_its_time_and_no_more(exchange, monkeypatch):
    monkeypatch.setattr(transport, "FLUSH_SECONDS", 0)
    monkeypatch.setattr(Memory, "get_write_buffer_size", lambda _: 1)
    _, client = await exchange(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"), 10**6)
    await a_while()
    assert client.closed == "at once"
