"""``access/idempotency.py``: what a repeated request gets."""

import asyncio

import pytest

from codex_server.access.idempotency import IdempotencyStore, StoredAnswer
from codex_server.errors import IdempotencyInFlight, IdempotencyLost, IdempotencyMismatch, StoreUnusable
from codex_server.store.memory import MemoryStore
from codex_server.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio
ASKED, OTHER = b"f" * 32, b"o" * 32
HEAD = 34
"""Bytes that the store keeps of each key besides the response."""


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(params=["memory", "sqlite"])
async def kept(request, tmp_path):
    """The durable part; it outlives a server."""
    store = MemoryStore(Clock()) if request.param == "memory" else SqliteStore(tmp_path, Clock())
    yield store
    await store.close()


@pytest.fixture
def store(kept):
    return IdempotencyStore(kept, clock=kept._clock)


async def stored(store, key, body=b"answer", status=200, caller="me"):
    assert await store.begin(caller, key, ASKED) is None
    await store.finish(caller, key, StoredAnswer(status, body))


async def test_a_repeated_request_gets_the_kept_answer(store):
    await stored(store, "k")
    assert await store.begin("me", "k", ASKED) == StoredAnswer(200, b"answer")


async def test_an_empty_answer_and_another_status_are_kept_as_they_are(store):
    await stored(store, "k", b"", status=422)
    assert await store.begin("me", "k", ASKED) == StoredAnswer(422, b"")


async def test_another_body_under_a_used_key_is_refused(store):
    await stored(store, "k")
    with pytest.raises(IdempotencyMismatch):
        await store.begin("me", "k", OTHER)


async def test_a_repeated_request_is_refused_while_the_first_one_runs(store):
    await store.begin("me", "k", ASKED)
    with pytest.raises(IdempotencyInFlight):
        await store.begin("me", "k", ASKED)
    with pytest.raises(IdempotencyMismatch):
        await store.begin("me", "k", OTHER)


async def test_of_many_at_once_one_runs(store):
    begun = await asyncio.gather(*(store.begin("me", "k", ASKED) for _ in range(20)), return_exceptions=True)
    assert begun.count(None) == 1
    assert sum(isinstance(each, IdempotencyInFlight) for each in begun) == 19


async def test_repetitions_at_once_all_get_the_answer(store):
    await stored(store, "k")
    again = await asyncio.gather(*(store.begin("me", "k", ASKED) for _ in range(20)))
    assert again == [StoredAnswer(200, b"answer")] * 20


async def test_a_key_belongs_to_one_caller(store):
    await stored(store, "k", caller="me")
    assert await store.begin("you", "k", OTHER) is None


async def test_an_abandoned_request_frees_its_key(store):
    await store.begin("me", "k", ASKED)
    await store.abandon("me", "k")
    assert await store.begin("me", "k", OTHER) is None


async def test_a_caller_who_leaves_before_the_request_began_frees_the_key(store):
    for steps in range(6):
        call = asyncio.ensure_future(store.begin("me", "k", ASKED))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        (result,) = await asyncio.gather(call, return_exceptions=True)
        if result is None:
            await store.abandon("me", "k")
    assert await store.begin("me", "k", OTHER) is None


async def test_answers_of_500_and_above_free_the_key(store):
    await stored(store, "k", status=500)
    assert await store.begin("me", "k", ASKED) is None


async def test_an_answer_is_forgotten_after_its_time(kept):
    store = IdempotencyStore(kept, seconds=10, clock=kept._clock)
    await stored(store, "k")
    kept._clock.now = 9.9
    assert await store.begin("me", "k", ASKED) is not None
    kept._clock.now = 10.0
    assert await store.begin("me", "k", ASKED) is None


async def test_the_oldest_answers_give_way_when_there_are_too_many(kept):
    store = IdempotencyStore(kept, max_answers=2, clock=kept._clock)
    for key in "abc":
        await stored(store, key)
    assert await store.begin("me", "b", ASKED) is not None
    assert await store.begin("me", "c", ASKED) is not None
    assert await store.begin("me", "a", ASKED) is None


async def test_the_oldest_answers_give_way_when_they_are_too_large_together(kept):
    store = IdempotencyStore(kept, max_bytes=10 + 2 * HEAD, clock=kept._clock)
    await stored(store, "a", b"x" * 6)
    await stored(store, "b", b"x" * 5)
    assert await store.begin("me", "b", ASKED) is not None
    assert await store.begin("me", "a", ASKED) is None


async def test_a_request_that_gave_way_while_it_runs_is_not_run_twice(kept):
    store = IdempotencyStore(kept, max_answers=1, clock=kept._clock)
    await store.begin("me", "slow", ASKED)
    await stored(store, "b")
    with pytest.raises(IdempotencyInFlight):
        await store.begin("me", "slow", ASKED)
    await store.finish("me", "slow", StoredAnswer(200, b"late"))
    assert await store.begin("me", "slow", ASKED) == StoredAnswer(200, b"late")


async def test_an_answer_above_the_whole_store_is_not_kept_and_drops_nothing(kept):
    store = IdempotencyStore(kept, max_bytes=100, clock=kept._clock)
    await stored(store, "a", b"x" * 50)
    await stored(store, "b", b"x" * 101)
    assert await store.begin("me", "a", ASKED) is not None
    assert await store.begin("me", "b", ASKED) is None


async def test_a_restart_forgets_no_answer(kept, store):
    await stored(store, "k")
    assert await IdempotencyStore(kept).begin("me", "k", ASKED) == StoredAnswer(200, b"answer")


async def test_a_request_that_ran_when_the_server_was_killed_is_lost_for_a_day_and_not_run_again(kept, store):
    await store.begin("me", "k", ASKED)
    restarted = IdempotencyStore(kept, clock=kept._clock)
    with pytest.raises(IdempotencyLost, match="with a new key"):
        await restarted.begin("me", "k", ASKED)
    with pytest.raises(IdempotencyMismatch):
        await restarted.begin("me", "k", OTHER)
    kept._clock.now = 24 * 3600.0
    assert await restarted.begin("me", "k", ASKED) is None


async def test_of_two_servers_on_one_store_one_runs_the_request_and_frees_its_own_key_only(kept, store):
    await store.begin("me", "k", ASKED)
    other = IdempotencyStore(kept, clock=kept._clock)
    with pytest.raises(IdempotencyLost):
        await other.begin("me", "k", ASKED)
    await other.abandon("me", "k")
    await store.finish("me", "k", StoredAnswer(200, b"answer"))
    assert await other.begin("me", "k", ASKED) == StoredAnswer(200, b"answer")


class FullDisk(MemoryStore):
    """Nothing more can be kept once it is full."""

    full = False

    async def put(self, *arguments, **more):
        if self.full:
            raise StoreUnusable("full")
        return await super().put(*arguments, **more)


async def test_a_store_that_keeps_nothing_refuses_a_request_before_it_runs():
    disk = FullDisk()
    disk.full = True
    store = IdempotencyStore(disk)
    for _ in range(2):
        with pytest.raises(StoreUnusable):
            await store.begin("me", "k", ASKED)


async def test_an_answer_that_cannot_be_kept_is_logged_and_its_request_not_run_again(caplog):
    disk = FullDisk()
    store = IdempotencyStore(disk)
    await store.begin("me", "k", ASKED)
    disk.full = True
    await store.finish("me", "k", StoredAnswer(200, b"answer"))
    assert [record.cause for record in caplog.records] == ["full"]
    with pytest.raises(IdempotencyLost):
        await store.begin("me", "k", ASKED)
