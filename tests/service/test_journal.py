import pytest

from codex_server.service.history import TABLE
from codex_server.service.journal import Journal
from codex_server.store.memory import MemoryStore
from tests.service.history import entry, keep

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def ids(entries):
    return [each.execution_id for each in entries]


async def test_the_newest_are_the_last_ones_in_the_order_in_which_they_came():
    store = MemoryStore()
    await keep(store, *(entry(f"exe_{number}") for number in range(5)))
    assert ids(await Journal(store).newest(3)) == ["exe_2", "exe_3", "exe_4"]


async def test_those_of_one_caller_are_found_behind_many_of_another():
    store = MemoryStore()
    await keep(store, entry("exe_mine", caller="ci"), *(entry(f"exe_{number}") for number in range(1100)))
    assert ids(await Journal(store, "ci").newest(20)) == ["exe_mine"]


async def test_news_are_what_came_since_and_come_once():
    store = MemoryStore()
    await keep(store, entry("exe_1"))
    journal = Journal(store)
    await journal.newest(0)
    await keep(store, entry("exe_2"), entry("exe_3"))
    assert ids(await journal.news()) == ["exe_2", "exe_3"]
    assert await journal.news() == []


async def test_news_of_an_empty_history_are_its_first_entries_of_that_caller():
    store = MemoryStore()
    journal = Journal(store, "ci")
    assert await journal.newest(20) == []
    await keep(store, entry("exe_1"), entry("exe_2", caller="ci"))
    assert ids(await journal.news()) == ["exe_2"]


async def test_one_that_had_not_ended_comes_again_when_it_has_and_only_then():
    store = MemoryStore()
    await keep(store, entry("exe_1", status="queued", background=True))
    journal = Journal(store)
    assert [each.status for each in await journal.newest(20)] == ["queued"]
    assert await journal.news() == []
    await keep(store, entry("exe_1", status="failed", background=True))
    assert [each.status for each in await journal.news()] == ["failed"]
    assert await journal.news() == []


async def test_one_that_retention_took_before_it_ended_is_forgotten():
    store = MemoryStore()
    await keep(store, entry("exe_1", status="queued"))
    journal = Journal(store)
    await journal.newest(20)
    await store.delete(TABLE, "exe_1")
    assert await journal.news() == []
