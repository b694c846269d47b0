"""What every session does, whatever backend made it: it starts interpreters, and gives operations time."""

import asyncio
import contextlib

import pytest

from codex_server.errors import InputRefused, SandboxFault, SandboxUnavailable
from codex_server.model import Terminal
from codex_server.sandboxes.live_session import LiveSession
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import decode, encode
from codex_server.sandboxes.protocol.payload import BackendDefaults
from codex_server.sandboxes.protocol.session import CellReport, CellStop, InterpreterOrder, InterpreterReady
from codex_server.sandboxes.protocol.slot import StepFailure
from codex_server.sandboxes.session import SessionPlan
from codex_server.sandboxes.stdin import StandardInput
from codex_server.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Orders:
    def of(self, language):
        if language == "cobol":
            raise SandboxUnavailable("there is no cobol")
        return InterpreterOrder(language, None, {}, 2**20, 8, 2**20, True)

    def of_files(self):
        return self.of("files")

    def of_shell(self, name, size):
        return self.of(name)


class Line:
    """A terminal that only knows whether it is open."""

    closed = False

    def drain(self):
        """Nothing has appeared."""

    def close(self):
        self.closed = True


class Sent(LiveSession):
    """Keeps what it is to send; its interpreters are ready at once, unless they are ``held``."""

    held = False

    def __init__(self):
        super().__init__(
            SessionPlan("ses_1", Settings().ceilings, ()), BackendDefaults.of(Settings()), Orders(), patience=1.0
        )
        self.sent = []
        self.timers = []
        self.lines = []

    def _send(self, kind, body, content=()):
        self.sent.append((kind, body))
        if kind is frames.Kind.START:
            name = decode(InterpreterOrder, body).name
            if not self.held:
                asyncio.get_running_loop().call_soon(self.started, encode(InterpreterReady(name)))

    @contextlib.contextmanager
    def _listen(self, cell):
        yield lambda: None

    def _close_input(self, cell):
        """Nothing to close."""

    def _line(self, name, output):
        self.lines.append(Line())
        return self.lines[-1]

    def _kill(self):
        self.lost("killed")

    async def destroy(self):
        self.closing()

    def _later(self, cell, seconds, action):
        self.timers.append(action)


def orders_sent(session):
    return [decode(InterpreterOrder, body).name for kind, body in session.sent if kind is frames.Kind.START]


async def until_starts(session, count):
    async with asyncio.timeout(30):
        while len(orders_sent(session)) < count:
            await asyncio.sleep(0)


async def test_an_interpreter_starts_though_its_callers_are_gone_and_the_next_one_joins():
    session = Sent()
    session.held = True
    gone = [asyncio.ensure_future(session.prepare("python")) for _ in range(2)]
    await until_starts(session, 1)
    for caller in gone:
        caller.cancel()
    await asyncio.wait(gone)
    assert [caller.cancelled() for caller in gone] == [True, True]
    joined, another = (asyncio.ensure_future(session.prepare(name)) for name in ("python", "javascript"))
    await asyncio.sleep(0)
    session.started(encode(InterpreterReady("python")))
    await joined
    await until_starts(session, 2)
    session.started(encode(InterpreterReady("javascript")))
    await another
    await session.prepare("python")
    assert orders_sent(session) == ["python", "javascript"]
    assert session.alive


async def test_a_start_in_the_background_is_joined_and_one_that_cannot_be_ordered_is_left_to_its_cell():
    session = Sent()
    session.held = True
    for _ in range(2):
        session.begin("python")
    session.begin("cobol")
    await until_starts(session, 1)
    joined = asyncio.ensure_future(session.prepare("python"))
    await asyncio.sleep(0)
    assert session.interpreters == set()
    session.started(encode(InterpreterReady("python")))
    session.begin("python")
    await joined
    assert session.interpreters == {"python"}
    assert orders_sent(session) == ["python"]
    with pytest.raises(SandboxUnavailable, match="no cobol"):
        await session.prepare("cobol")


async def test_a_start_that_fails_is_tried_again_and_one_in_a_lost_session_is_refused():
    session = Sent()
    session.held = True
    first = asyncio.ensure_future(session.prepare("python"))
    await until_starts(session, 1)
    session.failed(frames.Kind.FAULT, encode(StepFailure("fork", None, "no memory")))
    with pytest.raises(SandboxUnavailable, match=r"no memory.*limits\.processes"):
        await first
    callers = [asyncio.ensure_future(session.prepare(name)) for name in ("python", "javascript")]
    await until_starts(session, 2)
    session.lost("it was killed")
    for caller in callers:
        with pytest.raises(SandboxUnavailable, match="gone"):
            await caller
    assert orders_sent(session) == ["python", "python"]


def report_of(cell, *ended):
    return CellReport(cell, None, None, None, None, 0.0, 0.0, 0, 0, ended, (), (), 0)


async def shells_of(session, *names):
    return [await session.open_shell(name, Terminal(24, 80), lambda chunk: True) for name in names]


async def test_the_lines_of_shells_are_closed_when_their_session_is_gone_though_nobody_waits():
    session = Sent()
    idle, typed = await shells_of(session, "idle", "typed")
    waiting = asyncio.ensure_future(typed.wait_for_prompt())
    while not typed.running:
        await asyncio.sleep(0)
    waiting.cancel()
    session.lost("it was killed")
    assert [line.closed for line in session.lines] == [True, True]
    assert await idle.wait_for_prompt() is None
    with pytest.raises(InputRefused):
        await typed.type(b"ls")


async def test_the_line_of_a_shell_that_ended_beside_a_cell_is_closed():
    session = Sent()
    ended, _ = await shells_of(session, "one", "two")
    session.ended(report_of(99, "shell:one"), memoryview(b""))
    assert [line.closed for line in session.lines] == [True, False]
    assert await ended.wait_for_prompt() is None
    [anew] = await shells_of(session, "one")
    assert anew is not ended


async def test_a_shell_that_ended_as_it_started_was_not_opened():
    session = Sent()
    session.held = True
    opening = asyncio.ensure_future(shells_of(session, "one"))
    await until_starts(session, 1)
    session.started(encode(InterpreterReady("shell:one")))
    session.ended(report_of(99, "shell:one"), memoryview(b""))
    with pytest.raises(SandboxUnavailable, match="ended as it started"):
        await opening


async def test_an_upload_has_time_as_long_as_its_content_arrives_and_no_longer():
    session, source = Sent(), StandardInput(keep_open=True)
    work = asyncio.ensure_future(session.operate({"operation": "write"}, source, lambda chunk: True))
    while not session.timers:
        await asyncio.sleep(0)
    try:
        for _ in range(3):
            source.write(b"piece")
            source.take(5)
            session.timers.pop()()
            assert [kind for kind, _ in session.sent if kind is frames.Kind.CELL_STOP] == []
        session.timers.pop()()
        kind, body = session.sent[-1]
        assert (kind, decode(CellStop, body).how) == (frames.Kind.CELL_STOP, "kill")
    finally:
        session.lost("it was killed")
    with pytest.raises(SandboxFault):
        await work
