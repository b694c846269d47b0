"""``service/quota.py``: what a caller may use in a day."""

import asyncio
from datetime import UTC, date, datetime

import pytest

from codex_server.errors import QuotaExceeded, StoreUnusable
from codex_server.model import Caller
from codex_server.service.quota import Measure, Quota, Standing
from codex_server.service.usage import Usage
from codex_server.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
CI, CHATGPT = Caller("tok_1", "ci"), Caller("tok_2", "chatgpt")
EVENING = datetime(2026, 11, 28, 23, 59, 30, 500_000, tzinfo=UTC)


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Desk:
    """A quota, its usage, and what it reported last."""

    def __init__(self, store=None, **quotas) -> None:
        self.seconds = EVENING.timestamp()
        self.usage = Usage(store or MemoryStore(), days=30, clock=lambda: self.seconds)
        self.quota = Quota(self.usage, **{"executions": None, "cpu_seconds": None} | quotas)
        self.reported: Standing | None = None

    def report(self, standing: Standing) -> None:
        self.reported = standing

    async def take(self, caller=CI) -> date:
        return await self.quota.take(caller, self.report)


async def test_executions_are_counted_for_each_caller_and_refused_when_used_up():
    desk = Desk(executions=2)
    assert [await desk.take(), await desk.take()] == [date(2026, 11, 28)] * 2
    with pytest.raises(QuotaExceeded) as refused:
        await desk.take()
    assert refused.value.retry_after == 30
    assert refused.value.detail == ("today's 2 executions are used up; they are back at 2026-11-29T00:00:00Z, in 30 s")
    await desk.take(CHATGPT)


async def test_where_a_caller_stands_is_reported_before_and_at_the_refusal():
    desk = Desk(executions=1)
    await desk.take()
    assert desk.reported == Standing(date(2026, 11, 28), (Measure("executions", 1, 1),), 30)
    desk.reported = None
    with pytest.raises(QuotaExceeded):
        await desk.take()
    assert desk.reported is not None
    assert desk.reported.measures[0].remaining == 0


async def test_the_next_day_begins_with_everything():
    desk = Desk(executions=1)
    await desk.take()
    desk.seconds += 30
    assert await desk.take() == date(2026, 11, 29)


async def test_a_refused_execution_is_not_counted():
    desk = Desk(executions=1)
    await desk.take()
    for _ in range(3):
        with pytest.raises(QuotaExceeded):
            await desk.take()
    assert [each.executions for each in await _read(desk)] == [1]


async def test_cpu_seconds_are_refused_from_the_moment_when_they_are_used_up():
    desk = Desk(cpu_seconds=1.5)
    desk.usage.note(await desk.take(), CI, cpu_seconds=1.25)
    desk.usage.note(await desk.take(), CI, cpu_seconds=0.25)
    with pytest.raises(QuotaExceeded, match=r"today's 1\.5 CPU seconds are used up"):
        await desk.take()


async def test_a_check_of_many_counts_none_and_says_what_is_left():
    desk = Desk(executions=5, cpu_seconds=9)
    await desk.take()
    await desk.quota.check(CI, 4, desk.report)
    with pytest.raises(QuotaExceeded, match="the batch needs 5 executions, and 4 are left of today's 5 executions"):
        await desk.quota.check(CI, 5, desk.report)
    assert [each.executions for each in await _read(desk)] == [1]


async def test_whoever_leaves_while_it_is_counted_gets_it_back():
    held, go = asyncio.Event(), asyncio.Event()

    class SlowStore(MemoryStore):
        async def add(self, *args, **more):
            found = await super().add(*args, **more)
            held.set()
            await go.wait()
            return found

    desk = Desk(SlowStore(), executions=1)
    taking = asyncio.ensure_future(desk.take())
    await held.wait()
    taking.cancel()
    await asyncio.wait([taking])
    go.set()
    assert await desk.take()


class HeldStore(MemoryStore):
    """Its counting begins when ``go`` is set, and then comes to its end whoever waits for it, as in every store."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.go = asyncio.Event(), asyncio.Event()

    async def add(self, *args, **more):
        return await asyncio.shield(asyncio.ensure_future(self._add_later(args, more)))

    async def _add_later(self, args, more):
        self.held.set()
        await self.go.wait()
        return await super().add(*args, **more)


async def _leave(taking: list[asyncio.Future]) -> None:
    for each in taking:
        each.cancel()
    await asyncio.wait(taking)


async def test_whoever_leaves_before_it_is_counted_never_moves_the_counter_below_what_ran():
    store = HeldStore()
    desk = Desk(store, executions=2)
    store.go.set()
    await desk.take()
    store.go.clear()
    store.held.clear()
    desk.usage.note(EVENING.date(), CHATGPT, cpu_seconds=1)
    taking = [asyncio.ensure_future(desk.take()) for _ in range(5)]
    await store.held.wait()
    await _leave(taking)
    store.go.set()
    await desk.usage.close()
    assert {each.caller: each.executions for each in await _read(desk)} == {"ci": 1, "chatgpt": 0}
    await desk.take()
    with pytest.raises(QuotaExceeded):
        await desk.take()


async def test_whoever_leaves_a_store_that_fails_gets_nothing_back():
    class FailingStore(HeldStore):
        fails = True

        async def _add_later(self, args, more):
            found = await super()._add_later((*args[:2], {} if self.fails else args[2]), more)
            if self.fails:
                raise StoreUnusable("the disk is full")
            return found

    store = FailingStore()
    desk = Desk(store, executions=2)
    taking = [asyncio.ensure_future(desk.take())]
    await store.held.wait()
    await _leave(taking)
    store.go.set()
    await desk.usage.close()
    store.fails = False
    await desk.take()
    assert [each.executions for each in await _read(desk)] == [1]


async def _read(desk: Desk):
    await desk.usage.flush()
    return await desk.usage.by_day(1)
