"""``service/usage.py``: what callers used, by day."""

import asyncio
from datetime import UTC, date, datetime

import pytest

from codex_server.errors import StoreUnusable
from codex_server.model import Caller
from codex_server.service import usage as module
from codex_server.service.usage import TABLE, CallerDay, Usage
from codex_server.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
DAY = date(2026, 11, 28)
CI, CHATGPT = Caller("tok_1", "ci"), Caller("tok_2", "chatgpt")


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Clock:
    """Seconds since the epoch; begins at noon of ``DAY``."""

    def __init__(self) -> None:
        self.seconds = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.seconds


class BrokenStore(MemoryStore):
    async def add(self, *_args, **_more):
        raise StoreUnusable("the disk is full")


async def test_what_is_noted_is_written_together_and_told_by_caller_and_day():
    usage = Usage(MemoryStore(), days=30, clock=Clock())
    usage.note(DAY, CI, executions=1, cpu_seconds=0.5)
    usage.note(DAY, CI, executions=1, cpu_seconds=0.25)
    usage.note(DAY, CHATGPT, executions=1)
    await usage.close()
    assert await usage.by_day(1) == [CallerDay(DAY, "chatgpt", 1, 0.0), CallerDay(DAY, "ci", 2, 0.75)]


async def test_another_usage_of_the_same_store_adds_to_it():
    store, clock = MemoryStore(), Clock()
    for _ in range(2):
        usage = Usage(store, days=30, clock=clock)
        await usage.add(DAY, CI, 1)
        await usage.close()
    assert await Usage(store, days=30, clock=clock).by_day(1) == [CallerDay(DAY, "ci", 2, 0.0)]


async def test_what_is_added_at_once_comes_after_what_was_noted_before():
    usage = Usage(MemoryStore(), days=30, clock=Clock())
    usage.note(DAY, CI, cpu_seconds=2.0)
    assert await usage.add(DAY, CI, 1) == {"executions": 1, "cpu_seconds": 2.0}
    assert await usage.add(DAY, CHATGPT, 0) == {}
    await usage.close()


async def test_only_the_days_that_are_asked_for_are_told_the_oldest_first():
    clock = Clock()
    usage = Usage(MemoryStore(), days=30, clock=clock)
    for _ in range(4):
        await usage.add(usage.now().date(), CI, 1)
        clock.seconds += 86_400
    assert [each.day.day for each in await usage.by_day(3)] == [30, 1]
    assert [each.day.day for each in await usage.by_day(4)] == [29, 30, 1]


@pytest.mark.parametrize(("days", "kept"), [(0.01, 2), (30, 30)])
async def test_a_day_is_kept_as_long_as_the_history_but_never_shorter_than_itself(days, kept):
    clock, store = Clock(), MemoryStore()
    store._clock = clock
    usage = Usage(store, days=days, clock=clock)
    await usage.add(DAY, CI, 1)
    clock.seconds += kept * 86_400 - 1
    assert await usage.by_day(100)
    clock.seconds += 1
    assert await usage.by_day(100) == []
    assert (await store.page(TABLE)).records == ()


async def test_nothing_is_written_for_one_that_used_nothing():
    usage = Usage(BrokenStore(), days=30, clock=Clock())
    usage.note(DAY, CI)
    await usage.close()


async def test_a_store_that_fails_is_logged_and_harms_no_execution(caplog):
    usage = Usage(BrokenStore(), days=30, clock=Clock())
    usage.note(DAY, CI, executions=1)
    await usage.close()
    assert "usage waits to be written" in caplog.text


class SlowStore(MemoryStore):
    """Counts at once, and returns when ``go`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.go = asyncio.Event(), asyncio.Event()

    async def add(self, *args, **more):
        found = await super().add(*args, **more)
        self.held.set()
        await self.go.wait()
        return found


class FailingOnce(MemoryStore):
    """Fails at the call of ``method`` with this number, and at no other."""

    def __init__(self, method: str, number: int) -> None:
        super().__init__()
        self._fails, self._left = method, number

    async def put(self, *args, **more):
        self._called("put")
        return await super().put(*args, **more)

    async def add(self, *args, **more):
        self._called("add")
        return await super().add(*args, **more)

    def _called(self, method: str) -> None:
        self._left -= method == self._fails
        if method == self._fails and self._left == 0:
            raise StoreUnusable("the disk is full")


@pytest.mark.parametrize("method", ["put", "add"])
@pytest.mark.parametrize("number", [1, 2])
async def test_what_a_store_failed_to_write_is_written_the_next_time_and_once(method, number):
    usage = Usage(FailingOnce(method, number), days=30, clock=Clock())
    usage.note(DAY, CI, executions=1, cpu_seconds=0.5)
    usage.note(DAY, CHATGPT, executions=1)
    with pytest.raises(StoreUnusable):
        await usage.add(DAY, CI, 1)
    usage.note(DAY, CHATGPT, executions=1)
    await usage.close()
    assert await usage.by_day(1) == [CallerDay(DAY, "chatgpt", 2, 0.0), CallerDay(DAY, "ci", 1, 0.5)]


async def test_the_amounts_of_others_survive_a_flush_that_is_cancelled():
    store = SlowStore()
    usage = Usage(store, days=30, clock=Clock())
    usage.note(DAY, CI, executions=1)
    usage.note(DAY, CHATGPT, executions=1)
    flushing = asyncio.ensure_future(usage.flush())
    await store.held.wait()
    flushing.cancel()
    await asyncio.wait([flushing])
    store.go.set()
    await usage.close()
    assert await usage.by_day(1) == [CallerDay(DAY, "chatgpt", 1, 0.0), CallerDay(DAY, "ci", 1, 0.0)]


async def test_what_is_cancelled_while_it_is_added_is_taken_back_before_the_close_returns():
    store = SlowStore()
    usage = Usage(store, days=30, clock=Clock())
    adding = asyncio.ensure_future(usage.add(DAY, CI, 1))
    await store.held.wait()
    adding.cancel()
    await asyncio.wait([adding])
    closing = asyncio.ensure_future(usage.close())
    for _ in range(10):
        await asyncio.sleep(0)
    store.go.set()
    await closing
    assert await usage.by_day(1) == [CallerDay(DAY, "ci", 0, 0.0)]


async def test_a_store_that_failed_is_tried_again_without_being_asked(monkeypatch):
    monkeypatch.setattr(module, "_WRITE_SECONDS", 0)
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0)
    usage = Usage(FailingOnce("add", 1), days=30, clock=Clock())
    usage.note(DAY, CI, executions=1)
    await usage._writer
    assert await usage.by_day(1) == [CallerDay(DAY, "ci", 1, 0.0)]
