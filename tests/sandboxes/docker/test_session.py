"""A session in a container: a test plays the engine and the container's PID 1."""

import asyncio
import socket
import struct
from dataclasses import replace
from typing import Any

import pytest

from codex_server.errors import InputRefused, SandboxFault, SandboxUnavailable
from codex_server.languages import Language, Languages, Start
from codex_server.model import Ending, Stream, Terminal
from codex_server.sandboxes.docker.attachment import Attachment
from codex_server.sandboxes.docker.container import OWN_MEMORY_BYTES
from codex_server.sandboxes.docker.engine import EndState, EngineError
from codex_server.sandboxes.docker.sandbox import Container
from codex_server.sandboxes.docker.session import ContainerInterpreters, DockerSession
from codex_server.sandboxes.protocol import frames, stream
from codex_server.sandboxes.protocol.codec import encode
from codex_server.sandboxes.protocol.launch import ProgramFound
from codex_server.sandboxes.protocol.session import CellPiece, CellReport
from codex_server.sandboxes.session import SessionPlan
from codex_server.sandboxes.stdin import StandardInput
from tests.sandboxes.executions import CODE, DEFAULTS, PYTHON

pytestmark = [pytest.mark.anyio, pytest.mark.unprivileged]

PROGRAMS = {"python": ProgramFound("/usr/bin/python3", "Python 3.13.9"), "bash": ProgramFound("/bin/bash", "5.2")}
LANGUAGES = Languages([PYTHON, replace(PYTHON, name="bash", title="Bash", start=Start.COMMAND, program="bash")])
REPLY = b'{"exit_code": 0, "result": {"text/plain": "42"}}'


class FakeEngine:
    """What a session asks of an engine."""

    def __init__(self) -> None:
        self.killed = asyncio.Event()
        self.state = EndState(running=False, oom_killed=False)
        self.reachable = True

    async def kill(self, container: str) -> None:
        self.killed.set()

    async def end_state(self, container: str) -> EndState:
        if not self.reachable:
            raise EngineError("the engine cannot be reached")
        return self.state


class Guest:
    """The guest side of a session's stream."""

    def __init__(self, attachment: Attachment, connection: socket.socket) -> None:
        self.engine = FakeEngine()
        self.connection = connection
        self.removed = 0
        self.output: list[tuple[Stream, bytes]] = []
        self.deaths: list[str] = []
        self.runs: list[asyncio.Future[Ending]] = []
        self._frames = stream.Unpacker(2**24)
        self._received: list[stream.Frame] = []
        container = Container("c1", attachment, OWN_MEMORY_BYTES, self._remove)
        orders = ContainerInterpreters(LANGUAGES, PROGRAMS, {"HOME": "/tmp"}, CODE.limits)
        plan = SessionPlan("ses_1", CODE.limits)
        self.session = DockerSession(self.engine, container, plan, DEFAULTS, orders)  # type: ignore[arg-type]
        self.session.on_death(self.deaths.append)

    async def _remove(self) -> None:
        self.removed += 1

    async def receive(self) -> stream.Frame:
        async with asyncio.timeout(30):
            while not self._received:
                data = await asyncio.get_running_loop().sock_recv(self.connection, 2**16)
                assert data, "the server has closed the stream"
                self._received += self._frames.feed(data)
        return self._received.pop(0)

    async def send(self, kind: frames.Kind, body: dict[str, Any], content: bytes = b"") -> None:
        data = stream.pack(kind, body, content)
        framed = struct.pack(">B3xI", 1, len(data)) + data
        await asyncio.get_running_loop().sock_sendall(self.connection, framed)

    def take(self, which: Stream, chunk: bytes) -> bool:
        self.output.append((which, chunk))
        return True

    async def begin(self, stdin: StandardInput | None = None) -> asyncio.Future[Ending]:
        """A cell that runs, in an interpreter that has started."""
        run = asyncio.ensure_future(self.session.run(CODE, PYTHON, self.take, stdin))
        self.runs.append(run)
        kind, body, _ = await self.receive()
        if kind is frames.Kind.START:
            await self.send(frames.Kind.READY, {"name": body["name"]})
            kind, body, _ = await self.receive()
        assert kind is frames.Kind.CELL
        self.cell = body["id"]
        return run

    async def end(self, **changes: Any) -> None:
        """The cell has ended."""
        usual = CellReport(self.cell, None, len(REPLY), None, None, 0.1, 0.1, 1, 0, (), (), (), 0)
        report = replace(usual, **changes)
        await self.send(frames.Kind.CELL_END, encode(report), REPLY[: report.reply_bytes or 0])


@pytest.fixture
async def guest() -> Any:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    guest = Guest(await Attachment.over(ours, 2**24), theirs)
    yield guest
    for run in guest.runs:
        run.cancel()
    destroying = asyncio.ensure_future(guest.session.destroy())
    await asyncio.wait_for(destroying, 30)
    await asyncio.gather(*guest.runs, return_exceptions=True)
    await guest.session.destroy()
    theirs.close()
    assert guest.removed == 1


async def ended(run: asyncio.Future[Ending]) -> Ending:
    return await asyncio.wait_for(run, 30)


async def test_output_goes_to_the_cell_that_runs_and_the_reply_is_its_result(guest):
    run = await guest.begin()
    await guest.send(frames.Kind.STDOUT, {"name": "python"}, b"shown")
    await guest.send(frames.Kind.STDERR, {"name": "bash"}, b"a process of another language")
    await guest.send(frames.Kind.STDOUT, {"name": "files"}, b"no cell's")
    await guest.end()
    ending = await ended(run)
    assert guest.output == [(Stream.STDOUT, b"shown"), (Stream.STDERR, b"a process of another language")]
    assert ending.cell.result == {"text/plain": "42"}


async def test_an_interpreter_is_started_once(guest):
    first = await guest.begin()
    await guest.end()
    await ended(first)
    second = asyncio.ensure_future(guest.session.run(CODE, PYTHON, guest.take))
    guest.runs.append(second)
    kind, body, _ = await guest.receive()
    assert (kind, body["number"]) == (frames.Kind.CELL, 2)


async def test_a_kill_for_memory_that_init_counted_is_in_the_ending(guest):
    run = await guest.begin()
    await guest.end(reply_bytes=None, status=9, oom_kills=1, ended=("python",))
    ending = await ended(run)
    assert (ending.signal, ending.oom_kills, ending.cell.interpreter_restarted) == (9, 1, True)


async def test_input_is_sent_once_the_cell_has_opened_it_and_a_piece_after_the_other(guest):
    source = StandardInput(keep_open=True)
    await guest.begin(source)
    source.write(b"one")
    await guest.send(frames.Kind.CELL_INPUT, {"id": guest.cell})
    assert await guest.receive() == (frames.Kind.STDIN, encode(CellPiece(guest.cell, end=False)), b"one")
    source.write(b"two")
    source.close()
    await guest.send(frames.Kind.STDIN_TAKEN, {"id": guest.cell, "closed": False})
    assert await guest.receive() == (frames.Kind.STDIN, encode(CellPiece(guest.cell, end=True)), b"two")


async def test_a_container_that_is_lost_ends_the_session_and_the_cells_outcome_is_unknown(guest):
    run = await guest.begin()
    guest.connection.close()
    with pytest.raises(SandboxFault, match="its outcome is unknown"):
        await ended(run)
    assert guest.deaths == ["its sandbox was lost"]
    assert not guest.session.alive


@pytest.mark.parametrize(("reachable", "why"), [(True, "had no memory left"), (False, "its sandbox was lost")])
async def test_why_it_was_lost_is_what_the_engine_saw(guest, reachable, why):
    guest.engine.state = EndState(running=False, oom_killed=True)
    guest.engine.reachable = reachable
    run = await guest.begin()
    guest.connection.close()
    with pytest.raises(SandboxFault):
        await ended(run)
    assert why in guest.deaths[0]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (frames.Kind.READY, {"name": "unasked"}),
        (frames.Kind.STDOUT, {}),
        (frames.Kind.STDIN_TAKEN, {"id": -1, "closed": False}),
        (frames.Kind.PROBE, {}),
    ],
)
async def test_what_breaks_the_protocol_ends_the_session_and_its_container(guest, kind, body):
    run = await guest.begin()
    await guest.send(kind, body)
    with pytest.raises(SandboxFault):
        await ended(run)
    assert "broke the protocol" in guest.deaths[0]
    await asyncio.wait_for(guest.engine.killed.wait(), 30)


async def test_an_interpreter_that_could_not_be_started_leaves_the_session(guest):
    preparing = asyncio.ensure_future(guest.session.prepare(PYTHON))
    await guest.receive()
    await guest.send(frames.Kind.FAULT, {"step": "interpreter", "errno": 12, "message": "no memory"})
    with pytest.raises(SandboxUnavailable, match="could not be started"):
        await asyncio.wait_for(preparing, 30)
    assert guest.session.alive


def language(name: str, *session: str) -> Language:
    return replace(PYTHON, name=name, title=name, start=Start.COMMAND, program=name, session=session)


async def test_an_interpreter_of_its_own_is_started_by_its_path_in_the_image(guest):
    order = guest.session._orders.of(language("bash", "{program}", "{runner}/session.bash"))
    assert order.agent == ("/bin/bash", f"/opt/runners/{PYTHON.folder.name}/session.bash")
    assert guest.session._orders.of(PYTHON).agent is None


@pytest.mark.parametrize(
    ("name", "session", "why"),
    [("ruby", ("{program}",), "has no ruby"), ("bash", (), "no interpreter for sessions")],
)
async def test_a_language_that_the_image_cannot_serve_is_refused_with_what_to_do(guest, name, session, why):
    with pytest.raises(SandboxUnavailable, match=why) as refused:
        await guest.session.prepare(language(name, *session))
    assert "POST /execute" in str(refused.value)


async def test_a_session_whose_image_has_no_bash_has_no_shells(guest):
    orders = replace(guest.session._orders, programs={"bash": None})
    with pytest.raises(SandboxUnavailable, match="no shells"):
        orders.of_shell("shell:main", Terminal(24, 80))


class Typist:
    """A shell that was opened, and what has appeared in it."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.shown: list[bytes] = []

    def show(self, chunk: bytes) -> bool:
        self.shown.append(chunk)
        return True

    async def open(self) -> None:
        opening = asyncio.ensure_future(self.guest.session.open_shell("main", Terminal(24, 80), self.show))
        kind, self.order, _ = await self.guest.receive()
        assert kind is frames.Kind.START
        await self.guest.send(frames.Kind.READY, {"name": "shell:main"})
        self.shell = await asyncio.wait_for(opening, 30)

    async def type(self, keys: bytes) -> stream.Frame:
        """The first keys of a command: the shell begins to run, and they follow."""
        typing = asyncio.ensure_future(self.shell.type(keys))
        kind, body, _ = await self.guest.receive()
        assert kind is frames.Kind.CELL
        self.guest.cell = body["id"]
        await self.guest.send(frames.Kind.CELL_INPUT, {"id": self.guest.cell})
        await asyncio.wait_for(typing, 30)
        return await self.guest.receive()


@pytest.fixture
async def typist(guest: Guest) -> Typist:
    typist = Typist(guest)
    await typist.open()
    return typist


async def test_a_shell_is_the_images_bash_at_a_terminal(typist):
    assert typist.order["agent"][0] == "/bin/bash"
    assert typist.order["terminal"] == {"rows": 24, "columns": 80}


async def test_keys_are_sent_once_those_before_were_taken(guest, typist):
    assert await typist.type(b"ls") == (frames.Kind.KEYS, {"name": "shell:main"}, b"ls")
    await typist.shell.type(b"\r")
    typist.shell.resize(30, 90)
    kind, body, _ = await guest.receive()
    assert (kind, body["size"]) == (frames.Kind.WINDOW, {"rows": 30, "columns": 90})
    await guest.send(frames.Kind.KEYS_TAKEN, {"name": "shell:main", "closed": False})
    assert await guest.receive() == (frames.Kind.KEYS, {"name": "shell:main"}, b"\r")


async def test_what_appears_is_the_shells_and_its_prompt_comes_after_it(guest, typist):
    await typist.type(b"ls\r")
    waiting = asyncio.ensure_future(typist.shell.wait_for_prompt())
    await guest.send(frames.Kind.STDOUT, {"name": "shell:main"}, b"a.txt\r\n")
    report = CellReport(guest.cell, None, 12, None, None, 0.1, 0.1, 1, 0, (), (), (), 0)
    await guest.send(frames.Kind.CELL_END, encode(report), b"3 /workspace")
    prompt = await asyncio.wait_for(waiting, 30)
    assert (prompt.exit_code, prompt.folder, typist.shown) == (3, "/workspace", [b"a.txt\r\n"])


async def test_a_terminal_that_takes_no_more_refuses_keys(guest, typist):
    await typist.type(b"ls\r")
    await guest.send(frames.Kind.KEYS_TAKEN, {"name": "shell:main", "closed": True})
    run = await guest.begin()  # what was sent before has been taken by now
    await guest.send(frames.Kind.STDOUT, {"name": "python"}, b"x")
    await guest.end()
    await ended(run)
    with pytest.raises(InputRefused, match="reads no more"):
        await typist.shell.type(b"more")
