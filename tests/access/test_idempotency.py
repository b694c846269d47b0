"""``access/idempotency.py``: what a repeated request gets."""

import pytest

from codex_server.access.idempotency import IdempotencyStore, StoredAnswer
from codex_server.errors import IdempotencyInFlight, IdempotencyMismatch


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def stored(store, key, body=b"answer", status=200, caller="me"):
    assert store.begin(caller, key, b"f") is None
    store.finish(caller, key, StoredAnswer(status, body))


def test_a_repeated_request_gets_the_kept_answer():
    store = IdempotencyStore()
    stored(store, "k")
    assert store.begin("me", "k", b"f") == StoredAnswer(200, b"answer")


def test_another_body_under_a_used_key_is_refused():
    store = IdempotencyStore()
    stored(store, "k")
    with pytest.raises(IdempotencyMismatch):
        store.begin("me", "k", b"other")


def test_a_repeated_request_is_refused_while_the_first_one_runs():
    store = IdempotencyStore()
    store.begin("me", "k", b"f")
    with pytest.raises(IdempotencyInFlight):
        store.begin("me", "k", b"f")
    with pytest.raises(IdempotencyMismatch):
        store.begin("me", "k", b"other")


def test_a_key_belongs_to_one_caller():
    store = IdempotencyStore()
    stored(store, "k", caller="me")
    assert store.begin("you", "k", b"other") is None


def test_an_abandoned_request_frees_its_key():
    store = IdempotencyStore()
    store.begin("me", "k", b"f")
    store.abandon("me", "k")
    assert store.begin("me", "k", b"other") is None


def test_answers_of_500_and_above_free_the_key():
    store = IdempotencyStore()
    stored(store, "k", status=500)
    assert store.begin("me", "k", b"f") is None


def test_an_answer_is_forgotten_after_its_time():
    clock = Clock()
    store = IdempotencyStore(seconds=10, clock=clock)
    stored(store, "k")
    clock.now = 9.9
    assert store.begin("me", "k", b"f") is not None
    clock.now = 10.0
    assert store.begin("me", "k", b"f") is None


def test_the_oldest_answers_give_way_when_there_are_too_many():
    store = IdempotencyStore(max_answers=2)
    for key in "abc":
        stored(store, key)
    assert store.begin("me", "a", b"f") is None
    assert store.begin("me", "b", b"f") is not None
    assert store.begin("me", "c", b"f") is not None


def test_the_oldest_answers_give_way_when_they_are_too_large_together():
    store = IdempotencyStore(max_bytes=10)
    stored(store, "a", b"x" * 6)
    stored(store, "b", b"x" * 5)
    assert store.begin("me", "a", b"f") is None
    assert store.begin("me", "b", b"f") is not None


def test_an_answer_above_the_whole_store_is_not_kept_and_drops_nothing():
    store = IdempotencyStore(max_bytes=10)
    stored(store, "a", b"x" * 10)
    stored(store, "b", b"x" * 11)
    assert store.begin("me", "a", b"f") is not None
    assert store.begin("me", "b", b"f") is None
