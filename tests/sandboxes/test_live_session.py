"""How long an operation on files may take: its time begins anew as long as its content arrives."""

import asyncio
import contextlib

import pytest

from codex_server.errors import SandboxFault
from codex_server.sandboxes.live_session import LiveSession
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import decode
from codex_server.sandboxes.protocol.payload import BackendDefaults
from codex_server.sandboxes.protocol.session import CellStop, InterpreterOrder
from codex_server.sandboxes.session import SessionPlan
from codex_server.sandboxes.stdin import StandardInput
from codex_server.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Orders:
    def of_files(self):
        return InterpreterOrder("files", None, {}, 2**20, 8, 2**20, True)


class Sent(LiveSession):
    """Keeps what it is to send; its interpreters are ready at once."""

    def __init__(self):
        super().__init__(
            SessionPlan("ses_1", Settings().ceilings, ()), BackendDefaults.of(Settings()), Orders(), patience=1.0
        )
        self.sent = []
        self.timers = []

    def _send(self, kind, body, content=()):
        self.sent.append((kind, body))
        if kind is frames.Kind.START:
            asyncio.get_running_loop().call_soon(self._starting.set_result, "files")

    @contextlib.contextmanager
    def _listen(self, cell):
        yield lambda: None

    def _close_input(self, cell):
        """Nothing to close."""

    def _line(self, name, output):
        raise NotImplementedError

    def _kill(self):
        self.lost("killed")

    async def destroy(self):
        self.closing()

    def _later(self, cell, seconds, action):
        self.timers.append(action)


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
