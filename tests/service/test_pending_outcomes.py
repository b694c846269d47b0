"""``service/pending_outcomes.py``: what becomes of an outcome that the store cannot take."""

import asyncio

import pytest

from codex_server.errors import Busy, OutcomeGone, StoreUnusable
from codex_server.service import pending_outcomes
from codex_server.service.history import History
from codex_server.service.outcomes import KeptOutcome, Outcomes
from codex_server.service.pending_outcomes import PendingOutcomes
from codex_server.store.memory import MemoryStore
from tests.execution.virtualtime import in_virtual_time, now, settle

OUTCOME = KeptOutcome(status="succeeded", hint="a hint")


class Full(MemoryStore):
    """A store without room, as long as ``is_full``."""

    is_full = True

    async def put(self, *args, **named):
        if self.is_full:
            raise StoreUnusable("database or disk is full")
        return await super().put(*args, **named)


class Shelf:
    def __init__(self):
        self.store = Full()
        self.outcomes = Outcomes(self.store, seconds=3600, max_bytes=2**20)
        self.pending = PendingOutcomes(self.outcomes, History(self.store, days=1, entries=100))


def on_a_shelf(test):
    in_virtual_time(lambda: test(Shelf()))


def test_an_outcome_that_cannot_be_stored_says_so_while_it_is_here(caplog):
    async def test(shelf):
        shelf.pending.add("exe_1", "ann", OUTCOME)
        assert shelf.pending.find("exe_1", "ann") == OUTCOME
        await settle()
        hint = shelf.pending.find("exe_1", "ann").hint
        assert hint.startswith("a hint\nThis outcome cannot be stored at the moment, and may be gone in 60 s")
        assert shelf.pending.find("exe_1", "bob") is None
        assert "the outcome of exe_1 cannot be stored" in caplog.text
        await asyncio.sleep(61)
        assert shelf.pending.find("exe_1", "ann") is None
        assert "the outcome of exe_1 is lost" in caplog.text
        with pytest.raises(OutcomeGone, match="could not be stored"):
            shelf.pending.check_not_lost("exe_1")
        shelf.pending.check_not_lost("exe_2")

    on_a_shelf(test)


def test_an_outcome_is_stored_as_soon_as_the_store_can_again_and_without_the_note():
    async def test(shelf):
        shelf.pending.add("exe_1", "ann", OUTCOME)
        await settle()
        shelf.store.is_full = False
        await asyncio.sleep(11)
        assert shelf.pending.find("exe_1", "ann") is None
        assert await shelf.outcomes.find("exe_1", "ann") == OUTCOME
        shelf.pending.check_not_lost("exe_1")

    on_a_shelf(test)


def test_so_many_outcomes_may_wait_and_no_more(monkeypatch):
    monkeypatch.setattr(pending_outcomes, "MOST", 2)

    async def test(shelf):
        shelf.pending.add("exe_1", "ann", OUTCOME)
        shelf.pending.check_room()
        shelf.pending.add("exe_2", "ann", OUTCOME)
        with pytest.raises(Busy, match="nothing was run, try again in 10 s"):
            shelf.pending.check_room()
        shelf.store.is_full = False
        await asyncio.sleep(11)
        shelf.pending.check_room()

    on_a_shelf(test)


def test_a_server_that_stops_tries_once_more_and_waits_for_no_other_time():
    async def test(shelf):
        shelf.pending.add("exe_1", "ann", OUTCOME)
        await settle()
        shelf.store.is_full = False
        await shelf.pending.close()
        assert await shelf.outcomes.find("exe_1", "ann") == OUTCOME
        assert now() == 0

    on_a_shelf(test)


def test_a_server_that_stops_gives_up_what_the_store_refuses_still(caplog):
    async def test(shelf):
        shelf.pending.add("exe_1", "ann", OUTCOME)
        await settle()
        await shelf.pending.close()
        assert (now(), shelf.pending.find("exe_1", "ann")) == (0, None)
        assert "the outcome of exe_1 is lost" in caplog.text

    on_a_shelf(test)


def test_a_server_that_stops_waits_ten_seconds_for_a_store_that_does_not_respond(monkeypatch):
    async def test(shelf):
        monkeypatch.setattr(shelf.outcomes, "put", lambda *args: asyncio.sleep(1000))
        shelf.pending.add("exe_1", "ann", OUTCOME)
        await shelf.pending.close()
        assert (now(), shelf.pending.find("exe_1", "ann")) == (10, None)

    on_a_shelf(test)
