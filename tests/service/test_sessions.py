"""``service/sessions.py``: what holds without a door: room is given back, nothing is forgotten, nothing is left."""

import asyncio
from types import SimpleNamespace

import pytest

from codex_server.errors import SandboxUnavailable, SessionEnded, SessionsFull, StoreUnusable, UnknownSession
from codex_server.execution.executor import Executor
from codex_server.limits import Limits
from codex_server.nodes.local import LocalNode
from codex_server.sandboxes.session import SessionPlan
from codex_server.sandboxes.testing.fake import FakeBackend, fake_languages
from codex_server.service import sessions as sessions_module
from codex_server.service.cursors import Cursors
from codex_server.service.open_session import SessionTerms
from codex_server.service.session_records import KEPT_SECONDS, SessionRecords
from codex_server.service.session_room import SessionBounds, SessionRoom
from codex_server.service.sessions import Sessions
from codex_server.settings import Settings
from codex_server.store.memory import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Clock:
    """Stands still until a test moves it on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class FullStore(MemoryStore):
    """Cannot be written to while ``full``."""

    full = False

    async def put(self, *arguments, **named):
        if self.full:
            raise StoreUnusable("the disk is full")
        return await super().put(*arguments, **named)


class Desk(SimpleNamespace):
    """Sessions on a fake backend, and everything that they are made of."""

    async def open(self, session_id="ses_1", owner="me", memory=2**26, idle=900.0, lifetime=3600.0):
        terms = SessionTerms(owner, ("python",), {}, idle, lifetime)
        return await self.sessions.open(SessionPlan(session_id, Limits(memory_bytes=memory)), terms)


@pytest.fixture
async def desk():
    clock = Clock()
    store = FullStore(clock)
    async with FakeBackend() as backend:
        executor = Executor(backend, fake_languages(), Settings())
        node = LocalNode(executor, backend, fake_languages())
        room = SessionRoom(SessionBounds(3, 2, 2**27))
        sessions = Sessions(node, SessionRecords(store, clock=clock), room, Cursors(store, "sessions"), clock=clock)
        yield Desk(sessions=sessions, store=store, backend=backend, clock=clock, node=node)
        await executor.close()
        await sessions.close()
        assert [each for each in backend.sessions if not each.destroyed] == []


async def test_room_is_given_back_whatever_way_a_session_ends(desk):
    for number in range(3):
        first, second = await desk.open(f"ses_{number}a"), await desk.open(f"ses_{number}b")
        with pytest.raises(SessionsFull, match="as many sessions of yours are open as this server allows: 2"):
            await desk.open("ses_none")
        with pytest.raises(SessionsFull, match=r"64 MiB of memory .*, and 0 bytes are free"):
            await desk.open("ses_none", owner="you")
        await desk.sessions.end(first.id, "me")
        desk.backend.sessions[-1].die("it was lost to a test")
        while not desk.backend.sessions[-1].destroyed:
            await asyncio.sleep(0)
        with pytest.raises(SessionEnded, match="lost to a test"):
            await desk.sessions.find(second.id, "me")
        await asyncio.sleep(0)


async def test_a_session_that_is_being_opened_counts(desk):
    held = asyncio.get_running_loop().create_future()
    desk.backend.arming = lambda: held
    opening = [asyncio.ensure_future(desk.open(f"ses_{number}")) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(SessionsFull):
        await desk.open("ses_2")
    opening[0].cancel()
    await asyncio.wait([opening[0]])
    desk.backend.arming = None
    await desk.open("ses_2")
    held.set_result(None) if not held.done() else None
    await asyncio.wait([opening[1]])


async def test_one_that_cannot_be_recorded_is_not_opened(desk):
    desk.store.full = True
    with pytest.raises(StoreUnusable):
        await desk.open()
    assert desk.backend.sessions[0].destroyed
    assert await desk.sessions.page("me", None, 10) == ([], None)
    desk.store.full = False
    for number in range(2):
        await desk.open(f"ses_{number}")


async def test_one_that_cannot_be_made_takes_no_room(desk):
    desk.backend.arms_that_fail = 1
    with pytest.raises(SandboxUnavailable):
        await desk.open()
    for number in range(2):
        await desk.open(f"ses_{number}")


async def test_why_a_session_ended_is_known_for_a_day_and_to_its_owner_alone(desk):
    session = await desk.open()
    await desk.sessions.end(session.id, "me")
    for _ in range(2):
        with pytest.raises(SessionEnded, match="closed by its caller"):
            await desk.sessions.find(session.id, "me")
        with pytest.raises(UnknownSession):
            await desk.sessions.find(session.id, "you")
        desk.clock.now += KEPT_SECONDS - 1
    desk.clock.now += 2
    with pytest.raises(UnknownSession):
        await desk.sessions.find(session.id, "me")


async def test_an_end_that_cannot_be_written_ends_the_session_all_the_same(desk, caplog):
    session = await desk.open()
    desk.store.full = True
    await desk.sessions.end(session.id, "me")
    assert desk.backend.sessions[0].destroyed
    with pytest.raises(SessionEnded):
        await desk.sessions.find(session.id, "me")
    assert "was not recorded" in caplog.text


async def test_the_sweeper_ends_what_nobody_uses_without_being_asked(desk, monkeypatch):
    monkeypatch.setattr(sessions_module, "_SWEEP_SECONDS", (0.0, 0.0))
    await desk.open("ses_1", idle=60.0)
    stays = await desk.open("ses_2", idle=10**9, lifetime=10**9)
    stays.live.last_used = desk.clock.now
    desk.clock.now = 10**8
    while not desk.backend.sessions[0].destroyed:
        await asyncio.sleep(0)
    assert not desk.backend.sessions[1].destroyed


async def test_the_sweeper_goes_on_after_an_error(desk, monkeypatch, caplog):
    monkeypatch.setattr(sessions_module, "_SWEEP_SECONDS", (0.0, 0.0))
    session = await desk.open("ses_1", idle=60.0)
    failed = []

    async def fail(reason, cause):
        failed.append(reason)
        monkeypatch.undo()
        monkeypatch.setattr(sessions_module, "_SWEEP_SECONDS", (0.0, 0.0))
        raise OSError("no such luck")

    monkeypatch.setattr(session, "close", fail)
    desk.clock.now = 10**8
    while not desk.backend.sessions[0].destroyed:
        await asyncio.sleep(0)
    assert failed == ["its lifetime of 3600 s was over"]
    assert "cannot be ended" in caplog.text
