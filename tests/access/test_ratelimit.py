"""``access/ratelimit.py``: how often a caller may execute; ``access/moments.py``: how that is remembered."""

import threading

import pytest
import time_machine
from limits.storage import storage_from_string
from slowapi import Limiter
from slowapi.util import get_remote_address

from codex_server.access import moments
from codex_server.access.moments import MomentStorage
from codex_server.access.ratelimit import RateLimit


def test_a_caller_is_refused_above_its_quota_and_told_when_to_come_back(limiter_clock):
    limit = RateLimit("2/minute")
    assert limit.take("me").retry_after is None
    limiter_clock.shift(20)
    assert limit.take("me").retry_after is None
    assert limit.take("me").retry_after == 40
    limiter_clock.shift(40)
    assert limit.take("me").retry_after is None


def test_places_come_back_one_by_one_as_the_window_moves(limiter_clock):
    limit = RateLimit("2/minute")
    limit.take("me")
    limiter_clock.shift(30)
    limit.take("me")
    limiter_clock.shift(31)
    assert limit.take("me").retry_after is None
    assert limit.take("me").retry_after == 29


def test_callers_are_counted_apart():
    limit = RateLimit("1/hour")
    assert limit.take("me").retry_after is None
    assert limit.take("you").retry_after is None
    assert limit.take("me").retry_after is not None


def test_the_allowance_tells_quota_rest_and_reset(limiter_clock):
    limit = RateLimit("3/5minute")
    (window,) = limit.take("me").windows
    assert (window.name, window.quota, window.seconds, window.remaining, window.reset) == ("5minute", 3, 300, 2, 300)


def test_a_request_that_one_policy_refuses_is_counted_by_none(limiter_clock):
    limit = RateLimit("1/second;3/hour")
    limit.take("me")
    for _ in range(5):
        assert limit.take("me").retry_after == 1
    limiter_clock.shift(2)
    allowance = limit.take("me")
    assert allowance.retry_after is None
    assert [window.remaining for window in allowance.windows] == [0, 1]


def test_an_empty_policy_refuses_nobody():
    limit = RateLimit("")
    assert all(limit.take("me").retry_after is None for _ in range(1000))
    assert limit.take("me").windows == ()


@pytest.mark.parametrize("set_to", [-3600, 3600], ids=["back", "forward"])
def test_a_clock_that_somebody_sets_neither_locks_a_caller_out_nor_lets_it_in(set_to, limiter_clock):
    with time_machine.travel(1_000_000, tick=False) as clock:
        limit = RateLimit("1/minute")
        limit.take("me")
        clock.shift(set_to)
        assert limit.take("me").retry_after == 60
        limiter_clock.shift(60)
        assert limit.take("me").retry_after is None


def test_counting_starts_no_thread(monkeypatch):
    started = []
    monkeypatch.setattr(threading.Thread, "start", started.append)
    limit = RateLimit("5/second;100/day")
    for number in range(200):
        limit.take(f"caller {number % 7}")
    assert started == []


def test_a_caller_is_forgotten_when_its_window_is_over_and_somebody_else_comes(limiter_clock):
    storage = MomentStorage()
    for number in range(50):
        storage.acquire_entry(f"caller {number}", 5, 60)
    limiter_clock.shift(60)
    storage.acquire_entry("late", 5, 60)
    assert storage.reset() == 1


def test_no_more_callers_are_remembered_than_there_is_room_for(limiter_clock):
    storage = MomentStorage(max_keys=3)
    for name in ("one", "two", "three", "one", "four"):
        storage.acquire_entry(name, 5, 60)
    assert [storage.get(name) for name in ("one", "two", "three", "four")] == [2, 0, 1, 1]


def test_slowapi_takes_the_storage_by_its_address_as_it_takes_others():
    limiter = Limiter(get_remote_address, storage_uri=f"{moments.SCHEME}://", strategy="moving-window")
    assert isinstance(limiter.limiter.storage, MomentStorage)
    storage = storage_from_string(f"{moments.SCHEME}://")
    assert storage.check()
    assert [storage.incr("me", 60), storage.incr("me", 60, 2), storage.get("me")] == [1, 3, 3]
    storage.clear("me")
    assert storage.get("me") == 0


def test_another_storage_counts_by_the_clock_that_it_shares_with_other_machines():
    with time_machine.travel(1_000_000, tick=False) as clock:
        limit = RateLimit("1/minute", "memory://")
        limit.take("me")
        clock.shift(20)
        assert limit.take("me").retry_after == 40
        clock.shift(-3600)
        assert limit.take("me").retry_after == 60
