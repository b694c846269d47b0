import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks.closed_loop import Tally, run_clients
from benchmarks.stream import Stream
from benchmarks.wire import Address, BadResponse, Connection, Response, ResponseReader


def _answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\ndate: now\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def test_an_answer_is_put_together_from_any_pieces():
    reader, whole = ResponseReader(), _answer(b"hello")

    responses = [reader.feed(whole[place : place + 1]) for place in range(len(whole))]

    assert responses[:-1] == [None] * (len(whole) - 1)
    assert responses[-1] == Response(200, b"hello")


def test_the_advice_when_to_come_back_is_read():
    refused = ResponseReader().feed(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")

    assert refused == Response(503, b"", retry_after=7)


def test_what_follows_an_answer_begins_the_next_one():
    reader = ResponseReader()

    first = reader.feed(_answer(b"one") + _answer(b"two", "503 Busy")[:20])
    second = reader.feed(_answer(b"two", "503 Busy")[20:])

    assert (first, second) == (Response(200, b"one"), Response(503, b"two"))


def test_an_answer_without_a_length_is_refused():
    with pytest.raises(BadResponse, match="Content-Length"):
        ResponseReader().feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")


def test_an_execution_carries_token_type_and_length():
    request = Address("127.0.0.1", 80, "codex_x").execute("python", 'print("é")')

    head, _, body = request.partition(b"\r\n\r\n")
    assert b"\r\nAuthorization: Bearer codex_x" in head
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert body == b'{"language": "python", "code": "print(\\"\\u00e9\\")"}'


def test_a_get_carries_the_token_only_where_it_is_asked_for():
    address = Address("127.0.0.1", 80, "codex_x")

    assert b"codex_x" not in address.get("/livez")
    assert b"\r\nAuthorization: Bearer codex_x\r\n\r\n" in address.get("/executions/exe_1", authorized=True)


def test_an_execution_by_another_path_carries_its_fields():
    request = Address("127.0.0.1", 80, "codex_x").execute("python", "1", path="/execute/stream", timeout=5)

    assert request.startswith(b"POST /execute/stream HTTP/1.1\r\n")
    assert request.endswith(b'"code": "1", "timeout": 5}')


Say = Callable[[int], bytes]


@pytest.fixture
def serve() -> Iterator[Callable[[Say], Address]]:
    """A server on loopback that responds to the n-th request of all with ``say(n)``; nothing means hanging up."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    numbers = iter(range(10**9))

    def converse(connection: socket.socket, say: Say) -> None:
        with connection:
            while connection.recv(65536):
                if not (response := say(next(numbers))):
                    return
                connection.sendall(response)

    def accept(say: Say) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=converse, args=(connection, say)))
            threads[-1].start()

    def start(say: Say) -> Address:
        threads.append(threading.Thread(target=accept, args=(say,)))
        threads[-1].start()
        return Address("127.0.0.1", listener.getsockname()[1], "token")

    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join(30)


def test_a_sample_without_the_wanted_text_is_no_sample(serve):
    address = serve(lambda number: _answer(b"2"))

    with Connection(address) as connection, pytest.raises(BadResponse, match="HTTP 200, without b'1'"):
        connection.timed(address.get("/"), b"1")


def test_a_server_that_hangs_up_is_reported(serve):
    address = serve(lambda number: b"")

    with Connection(address) as connection, pytest.raises(BadResponse, match="closed the connection"):
        connection.exchange(address.get("/"))


def test_clients_count_responses_rejections_errors_and_lost_connections(serve):
    kinds = [_answer(b"1"), _answer(b"", "503 Busy"), _answer(b"", "500 Oops"), b""]
    address = serve(lambda number: kinds[number % len(kinds)])

    tally = run_clients(address, address.get("/"), b"1", clients=3, seconds=0.2)

    assert tally.latencies
    assert tally.in_time <= len(tally.latencies)
    assert tally.busy
    assert tally.errors


@pytest.mark.parametrize(("first", "expected"), [(_answer(b"", "500 Oops"), "status=500"), (b"", "None")])
def test_the_first_error_is_reported_whatever_comes_after_it(serve, first, expected):
    kinds = [first, b"", _answer(b"", "404 Gone")]
    address = serve(lambda number: kinds[number % len(kinds)])

    assert expected in run_clients(address, address.get("/"), b"1", clients=1, seconds=0.2).first_error


def test_a_client_that_is_told_when_to_come_back_comes_neither_earlier_nor_after_the_window(serve):
    asked: list[int] = []
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n"

    def say(number: int) -> bytes:
        asked.append(number)
        return busy % (0 if number < 10 else 600)

    tally = run_clients(serve(say), b"GET / HTTP/1.1\r\n\r\n", b"1", clients=1, seconds=300)

    assert (len(asked), tally.busy, tally.errors, tally.latencies) == (11, 11, 0, [])


@pytest.mark.tier("change")
def test_a_client_that_has_rested_asks_again_on_a_new_connection(serve):
    responses = [
        b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
        _answer(b"1"),
        _answer(b"", "500 No"),
    ]
    address = serve(lambda number: responses[min(number, 2)])

    tally = run_clients(address, address.get("/"), b"1", clients=1, seconds=1.2)

    assert (tally.busy, tally.in_time) == (1, 1)


def test_every_client_gets_its_last_response_even_after_the_window(serve):
    address = serve(lambda number: _answer(b"1"))

    tally = run_clients(address, address.get("/"), b"1", clients=4, seconds=0.0)

    assert (len(tally.latencies), tally.errors, tally.busy) == (4, 0, 0)


def test_clients_without_any_good_response_have_no_latency_but_an_error():
    tally = Tally(2, 1.0)
    tally.note(Response(500, b"broken"), b"1", 0.1, in_time=True)

    with pytest.raises(BadResponse, match="broken"):
        _ = tally.samples


def _chunked(*pieces: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def test_a_stream_is_read_to_a_word_and_then_to_its_end(serve):
    address = serve(lambda number: _chunked(b"one", b"two"))

    with Stream(address, "1") as stream:
        seen, arrived = stream.read_until(b"one")
        assert arrived > 0
        assert seen.startswith(b"HTTP/1.1 200 ")
        assert stream.read_all() == _chunked(b"one", b"two")


@pytest.mark.parametrize("sent", [_chunked(b"one"), _chunked(b"one")[:-9]], ids=["whole", "cut"])
def test_a_stream_without_the_wanted_word_is_reported(serve, sent):
    address = serve(lambda number: sent if number == 0 else b"")

    with Stream(address, "1") as stream, pytest.raises(BadResponse, match="ended without b'two'"):
        stream._socket.shutdown(socket.SHUT_WR)
        stream.read_until(b"two")


def test_a_refusal_is_no_stream(serve):
    address = serve(lambda number: _answer(b"no", "503 Busy") + b"\r\n0\r\n\r\n")

    with Stream(address, "1") as stream, pytest.raises(BadResponse, match="no stream"):
        stream.read_all()


def test_a_response_without_content_ends_with_its_header():
    reader = ResponseReader()
    response = reader.feed(b"HTTP/1.1 204 No Content\r\ndate: x\r\n\r\n")
    assert response == Response(204, b"")
