"""``access/ratelimit.py``: how often a caller may execute."""

import time_machine

from codex_server.access.ratelimit import RateLimit


def test_a_caller_is_refused_above_its_quota_and_told_when_to_come_back():
    with time_machine.travel(1_000_000, tick=False) as clock:
        limit = RateLimit("2/minute")
        assert limit.take("me").retry_after is None
        clock.shift(20)
        assert limit.take("me").retry_after is None
        assert limit.take("me").retry_after == 40


def test_places_come_back_one_by_one_as_the_window_moves():
    with time_machine.travel(1_000_000, tick=False) as clock:
        limit = RateLimit("2/minute")
        limit.take("me")
        clock.shift(30)
        limit.take("me")
        clock.shift(31)
        assert limit.take("me").retry_after is None
        assert limit.take("me").retry_after == 29


def test_callers_are_counted_apart():
    limit = RateLimit("1/hour")
    assert limit.take("me").retry_after is None
    assert limit.take("you").retry_after is None
    assert limit.take("me").retry_after is not None


def test_the_allowance_tells_quota_rest_and_reset():
    with time_machine.travel(1_000_000, tick=False):
        limit = RateLimit("3/5minute")
        (window,) = limit.take("me").windows
    assert (window.name, window.quota, window.seconds, window.remaining, window.reset) == ("5minute", 3, 300, 2, 300)


def test_a_request_that_one_policy_refuses_is_counted_by_none():
    with time_machine.travel(1_000_000, tick=False) as clock:
        limit = RateLimit("1/second;3/hour")
        limit.take("me")
        for _ in range(5):
            assert limit.take("me").retry_after == 1
        clock.shift(2)
        allowance = limit.take("me")
    assert allowance.retry_after is None
    assert [window.remaining for window in allowance.windows] == [0, 1]


def test_an_empty_policy_refuses_nobody():
    limit = RateLimit("")
    assert all(limit.take("me").retry_after is None for _ in range(1000))
    assert limit.take("me").windows == ()
