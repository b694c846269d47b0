"""``service/rate.py``: what a caller above its rate is refused with."""

from codex_server.access.ratelimit import Allowance, Window
from codex_server.service.rate import rate_refusal

MINUTE = Window("minute", quota=10, seconds=60, remaining=0, reset=30)
HOUR = Window("hour", quota=100, seconds=3600, remaining=40, reset=900)


def test_what_was_counted_is_not_refused():
    assert rate_refusal(Allowance((HOUR,)), 1) is None


def test_a_refusal_names_the_policies_that_are_used_up_and_the_seconds_to_wait():
    refusal = rate_refusal(Allowance((MINUTE, HOUR), retry_after=30), 1)
    assert refusal.retry_after == 30
    assert "10 in 60 s" in refusal.detail
    assert "100 in" not in refusal.detail


def test_a_batch_is_refused_with_what_it_needs_and_what_is_left():
    refusal = rate_refusal(Allowance((HOUR,), retry_after=7), 50)
    assert "50 more executions, and 40 are left of 100" in refusal.detail
