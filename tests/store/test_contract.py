"""``store/base.py``: what every store does, be it in a file or in memory."""

import asyncio

import pytest

from codex_server.store.base import Entry, Size
from codex_server.store.memory import MemoryStore
from codex_server.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["sqlite", "memory"])
async def store(request, tmp_path, clock):
    made = SqliteStore(tmp_path, clock) if request.param == "sqlite" else MemoryStore(clock)
    yield made
    await made.close()


async def fill(store, *keys, table="t", **more):
    for key in keys:
        await store.put(table, key, key.encode(), **more)


def keys(records):
    return "".join(record.key for record in records)


async def test_what_was_put_is_returned_with_owner_and_times(store):
    assert await store.put("t", "k", b"\x00value", owner="me", expires_at=2000.0)
    record = await store.get("t", "k")
    assert (record.key, record.value, record.owner) == ("k", b"\x00value", "me")
    assert (record.created_at, record.expires_at) == (1000.0, 2000.0)


async def test_many_are_put_at_once_in_their_order(store):
    await fill(store, "b", owner="old")
    await store.put_all("t", [Entry("a", b"1", "me", 2000.0), Entry("b", b"2", "me"), Entry("c", b"3")])
    assert [(each.key, each.value, each.owner) for each in await store.follow("t")] == [
        ("b", b"2", "me"),
        ("a", b"1", "me"),
        ("c", b"3", ""),
    ]
    assert (await store.get("t", "a")).expires_at == 2000.0


async def test_an_unknown_key_is_none_and_tables_are_apart(store):
    await fill(store, "k")
    assert await store.get("t", "other") is None
    assert await store.get("other", "k") is None


async def test_a_replaced_record_keeps_its_place_and_its_beginning(store, clock):
    await fill(store, "a", "b")
    first = await store.get("t", "a")
    clock.now += 1
    assert await store.put("t", "a", b"new", owner="you", expires_at=3000.0)
    record = await store.get("t", "a")
    assert (record.sequence, record.created_at) == (first.sequence, first.created_at)
    assert (record.value, record.owner, record.expires_at) == (b"new", "you", 3000.0)


async def test_only_if_absent_leaves_a_used_key_as_it_is(store):
    assert await store.put("t", "k", b"1", only_if_absent=True)
    assert not await store.put("t", "k", b"2", only_if_absent=True)
    assert (await store.get("t", "k")).value == b"1"


async def test_of_many_who_claim_a_key_at_once_one_gets_it(store):
    won = await asyncio.gather(*(store.put("t", "k", b"%d" % n, only_if_absent=True) for n in range(20)))
    assert sum(won) == 1


async def test_a_record_is_gone_at_its_time_and_its_key_is_free(store, clock):
    await fill(store, "k", expires_at=1010.0)
    old = await store.get("t", "k")
    clock.now = 1009.9
    assert not await store.put("t", "k", b"2", only_if_absent=True)
    clock.now = 1010.0
    assert await store.get("t", "k") is None
    assert (await store.page("t")).records == ()
    assert await store.follow("t") == ()
    assert await store.size("t") == Size(0, 0)
    assert not await store.delete("t", "k")
    assert await store.put("t", "k", b"2", only_if_absent=True)
    assert (await store.get("t", "k")).sequence > old.sequence


async def test_a_deleted_record_is_gone_and_only_the_first_deletion_counts(store):
    await fill(store, "k")
    assert await store.delete("t", "k")
    assert not await store.delete("t", "k")
    assert await store.get("t", "k") is None


async def test_a_deletion_that_expects_another_value_removes_nothing(store):
    await fill(store, "k")
    assert not await store.delete("t", "k", expected=b"other")
    assert await store.delete("t", "k", expected=b"k")


async def test_pages_come_newest_first_and_the_last_one_has_no_cursor(store):
    await fill(store, *"abcde")
    first = await store.page("t", limit=2)
    second = await store.page("t", limit=2, before=first.before)
    third = await store.page("t", limit=2, before=second.before)
    assert [keys(page.records) for page in (first, second, third)] == ["ed", "cb", "a"]
    assert third.before is None
    assert (await store.page("t", limit=5)).before is None


async def test_a_cursor_is_stable_while_records_come_and_go(store):
    await fill(store, *"abcd")
    page = await store.page("t", limit=2)
    await fill(store, "e")
    await store.delete("t", "c")
    assert keys((await store.page("t", before=page.before)).records) == "ba"


async def test_pages_and_sizes_can_be_one_owners(store):
    await fill(store, *"ac", owner="me")
    await fill(store, *"b", owner="you")
    await fill(store, *"d", table="other", owner="me")
    assert keys((await store.page("t", owner="me")).records) == "ca"
    assert await store.size("t", owner="me") == Size(2, 2)
    assert await store.size("t") == Size(3, 3)


async def test_followers_get_what_came_since_in_order_and_nothing_twice(store):
    await fill(store, *"abc")
    first = await store.follow("t", limit=2)
    await store.delete("t", "c")  # its sequence is not used again
    await fill(store, "d")
    assert keys(first) == "ab"
    assert keys(await store.follow("t", after=first[-1].sequence)) == "d"
    (last,) = await store.follow("t", after=first[-1].sequence)
    await store.delete("t", "d")
    await fill(store, "e")
    assert keys(await store.follow("t", after=last.sequence)) == "e"


async def test_trimming_removes_the_oldest_rows_of_one_table(store):
    await fill(store, *"abcd")
    await fill(store, "x", table="other")
    assert await store.trim("t", max_rows=2, max_bytes=100) == 2
    assert keys((await store.page("t")).records) == "dc"
    assert await store.size("other") == Size(1, 1)
    assert await store.trim("t", max_rows=2, max_bytes=100) == 0


async def test_trimming_removes_the_oldest_bytes(store):
    for key, length in (("a", 6), ("b", 5), ("c", 5)):
        await store.put("t", key, b"x" * length)
    assert await store.trim("t", max_rows=100, max_bytes=10) == 1
    assert keys((await store.page("t")).records) == "cb"


async def test_what_has_expired_does_not_push_out_what_has_not(store, clock):
    await fill(store, "a")
    await fill(store, *"bc", expires_at=1001.0)
    clock.now = 1001.0
    assert await store.trim("t", max_rows=1, max_bytes=1) == 0
    assert keys((await store.page("t")).records) == "a"


async def test_counters_add_up_by_name_and_are_returned_together(store):
    assert await store.add("c", "me", {"runs": 1, "seconds": 0.5}) == {"runs": 1, "seconds": 0.5}
    assert await store.add("c", "me", {"runs": 2}) == {"runs": 3, "seconds": 0.5}
    assert await store.add("c", "me", {}) == {"runs": 3, "seconds": 0.5}
    assert await store.add("c", "you", {}) == {}


async def test_counters_begin_at_nothing_once_they_expired(store, clock):
    await store.add("c", "me", {"runs": 5}, expires_at=1010.0)
    clock.now = 1010.0
    assert await store.add("c", "me", {}) == {}
    assert await store.add("c", "me", {"runs": 1}, expires_at=1020.0) == {"runs": 1}


async def test_no_addition_is_lost_when_many_add_at_once(store):
    await asyncio.gather(*(store.add("c", "me", {"runs": 1}) for _ in range(50)))
    assert await store.add("c", "me", {}) == {"runs": 50}


async def test_a_sweep_removes_what_has_expired_and_nothing_else(store, clock):
    await fill(store, *"ab", expires_at=1001.0)
    await fill(store, "c", expires_at=1002.0)
    await fill(store, "d")
    await store.add("c", "me", {"runs": 1}, expires_at=1001.0)
    clock.now = 1001.0
    assert await store.sweep() == 3
    assert await store.sweep() == 0
    assert keys((await store.page("t")).records) == "dc"


async def test_what_was_asked_for_is_done_though_the_caller_left(store):
    calls = [asyncio.ensure_future(fill(store, key)) for key in "abc"]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert keys((await store.page("t")).records) == "cba"


async def test_closing_twice_is_closing_once(store):
    await fill(store, "a")
    await store.close()
    await store.close()
