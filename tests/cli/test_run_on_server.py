"""``codex-server run --url``: against the HTTP door, with a fake backend behind it, and against what is no server."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from codex_server.cli.program import Program
from codex_server.cli.server import Server, ServerProblem
from codex_server.errors import InvalidRequest
from codex_server.model import Stream
from codex_server.service.journal import Journal
from codex_server.store.sqlite import SqliteStore
from tests.cli.desk import SECONDS, TOKEN, Desk
from tests.waiting import until


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Desk() as opened:
        yield opened


class Heard(list[tuple[Stream, bytes]]):
    """A sink that keeps what it gets; the reader leaves after so many pieces."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most

    def __call__(self, stream: Stream, chunk: bytes) -> bool:
        self.append((stream, chunk))
        return len(self) < self.most


def run(url: str, code: str, token: str | None = TOKEN, heard: Heard | None = None, **more):
    return Server(url, token).run(Program(code, "python", **more), Heard() if heard is None else heard)


def command(url: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "codex_server", "run", "--url", url, "-l", "python", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "CODEX_TOKEN": TOKEN}


def statuses(desk: Desk) -> list[str]:
    """What the server's history says became of the programs."""

    async def read() -> list[str]:
        store = SqliteStore(desk.settings.state_dir)
        entries = await Journal(store).newest(10)
        await store.close()
        return [entry.status for entry in entries]

    return asyncio.run(read())


@contextlib.contextmanager
def answering(response: bytes) -> Iterator[str]:
    """The address of something that gives this response to the first request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(response)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(SECONDS)


def ndjson(*events: object) -> bytes:
    body = "".join(json.dumps(event) + "\n" for event in events).encode()
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body


def test_output_and_exit_code_are_the_programs(desk):
    heard = Heard()
    assert run(desk.url, "print out\nerror bad\nexit 7", heard=heard).exit_code == 7
    assert b"".join(chunk for stream, chunk in heard if stream is Stream.STDOUT) == b"out\n"
    assert b"".join(chunk for stream, chunk in heard if stream is Stream.STDERR) == b"bad\n"


def test_the_command_sends_input_arguments_and_timeout_and_takes_the_token_from_the_environment(desk):
    done = subprocess.run(
        command(desk.url, "--timeout", "7", "-c", "print hi", "--", "-a", "b"),
        input="é".encode(),
        capture_output=True,
        check=False,
        timeout=SECONDS,
        env=environment(),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hi\n", b"")
    (execution,) = desk.backend.executions
    assert (execution.stdin, execution.args, execution.limits.wall_seconds) == ("é".encode(), ("-a", "b"), 7)


def test_output_comes_while_the_program_runs_and_ctrl_c_cancels_it(desk):
    process = subprocess.Popen(
        command(desk.url, "-c", "print first\nwait never"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"first\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
        assert process.stderr.read() == b""
    assert until(lambda: statuses(desk) == ["cancelled"], SECONDS)


def test_a_reader_that_leaves_ends_the_program(desk):
    heard = Heard(most=1)
    run(desk.url, "print first\nwait never", heard=heard)
    assert heard == [(Stream.STDOUT, b"first\n")]
    assert until(lambda: statuses(desk) == ["cancelled"], SECONDS)


@pytest.mark.parametrize(
    ("code", "exit_code", "reason"),
    [
        ("signal 11", 139, "ended by SIGSEGV"),
        ("hang", 137, "stopped: timed out after 10 s"),
        ("exit 3", 3, None),
    ],
)
def test_what_ended_the_program_is_said_and_the_exit_code_is_the_shells(desk, code, exit_code, reason):
    ended = run(desk.url, code)
    assert (ended.exit_code, ended.reason) == (exit_code, reason)


def test_each_file_that_the_program_left_is_named_with_its_link_and_what_is_lost_with_the_reason(desk):
    ended = run(desk.url, "write out/a.csv 1,2,3\nskip big.bin it is too large")
    kept, lost = ended.files
    assert kept.startswith("the program left out/a.csv (5 bytes), until 2")
    link = kept.rpartition(" at ")[2]
    assert link.startswith(f"{desk.url}/artifacts/art_")
    with urlopen(link) as response:
        assert response.read() == b"1,2,3"
    assert lost == "big.bin of the program is lost: it is too large"


def test_names_of_files_cannot_steer_the_terminal_and_many_are_not_all_listed():
    files = [
        {"path": f"\x1b[2J{number}", "size": 1, "url": "https://a.test/x", "expires_at": "?"} for number in range(22)
    ]
    finished = {"type": "finished", "exit_code": 0, "status": "succeeded", "files": [*files, {"path": "b"}]}
    with answering(ndjson(finished)) as url:
        shown = run(url, "print 1").files
    assert shown[0] == "the program left ?[2J0 (1 bytes), until ? at https://a.test/x"
    assert (len(shown), shown[-1]) == (21, "and 3 files more, which are not listed here")


def test_the_command_shows_the_files_on_stderr(desk):
    done = subprocess.run(
        command(desk.url, "-c", "write a.csv 1,2,3\nexit 1"), stdin=subprocess.DEVNULL, capture_output=True,
        check=False, timeout=SECONDS, env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"codex-server: the program left a.csv (5 bytes)" in done.stderr


@pytest.mark.parametrize("arguments", [["-c", ""], ["-c", "print 1", "--token", "wrong"], ["-c", "die"]])
def test_what_is_refused_or_lost_has_an_exit_code_of_its_own(desk, arguments):
    done = subprocess.run(
        command(desk.url, *arguments), stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=SECONDS,
        env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.startswith(b"codex-server: ")


def test_a_refusal_is_what_the_server_says(desk):
    with pytest.raises(ServerProblem, match="the code is empty"):
        run(desk.url, "")
    with pytest.raises(ServerProblem, match="ask for at most 30"):
        run(desk.url, "print 1", timeout=99.0)


@pytest.mark.parametrize("token", [None, "another-token-than-that"])
def test_without_the_right_token_the_flag_is_named(desk, token):
    with pytest.raises(ServerProblem, match="--token or CODEX_TOKEN"):
        run(desk.url, "print 1", token=token)


def test_a_lost_sandbox_is_reported(desk):
    with pytest.raises(ServerProblem, match="not run again"):
        run(desk.url, "die")


def test_input_that_is_no_text_is_refused_before_anything_is_sent():
    with pytest.raises(InvalidRequest, match="not UTF-8 text"):
        run("http://127.0.0.1:1", "print 1", stdin=b"\xff")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:8000", "http://user@host", "https://host/?a=b"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(InvalidRequest, match="is not an address"):
        Server(url, None)


def test_an_address_where_nothing_listens_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ServerProblem, match=f"{url} cannot be reached .*nothing was run"):
        run(url, "print 1")


def test_a_redirect_is_not_followed_for_the_token_would_go_along():
    with (
        answering(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.test/\r\nContent-Length: 0\r\n\r\n") as url,
        pytest.raises(ServerProblem, match=r"http://elsewhere\.test/; give that address"),
    ):
        run(url, "print 1")


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello", "404 Not Found and not that of a Codex Server"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "not that of a Codex Server"),
        (b"", "the connection broke"),
        (ndjson({"type": "stdout", "text": "a"}), "the connection ended before the program did"),
    ],
)
def test_what_is_no_whole_answer_of_a_server_is_an_error(response, said):
    with answering(response) as url, pytest.raises(ServerProblem, match=said):
        run(url, "print 1")


def test_a_gap_is_told_and_pings_and_unknown_events_are_passed_over(capsys):
    finished = {"type": "finished", "exit_code": 0, "status": "succeeded"}
    gap = {"type": "gap", "stream": "stdout", "bytes": 9}
    with answering(ndjson({"type": "ping"}, {"type": "new"}, gap, finished)) as url:
        assert run(url, "print 1").exit_code == 0
    assert "9 bytes of stdout are missing" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--min-isolation", "full"], ["--set", "max_timeout=60"]])
def test_flags_of_this_machine_are_refused_with_a_url(flags):
    done = subprocess.run(
        command("http://127.0.0.1:1", *flags, "-c", "print 1"), stdin=subprocess.DEVNULL, capture_output=True,
        check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"the server's settings hold" in done.stderr
