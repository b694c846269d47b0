"""Locks that init keeps: what excludes what, what is left of a lock, and what ends it."""

import errno
import fcntl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.sandboxes.guest import locks as module
from codex_server.sandboxes.guest.locks import Lock, Locks

pytestmark = pytest.mark.unprivileged

FILE, OTHER_FILE = (1, 100), (1, 101)
ADA, BOB = (10, "5"), (11, "6")
READ, WRITE, NONE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK


@pytest.fixture
def locks():
    return Locks(is_held=lambda owner, file: True)


@pytest.mark.parametrize(
    ("held", "wished", "answer"),
    [
        (Lock(ADA, READ, 0, 9), Lock(BOB, READ, 0, 9), 0),
        (Lock(ADA, READ, 0, 9), Lock(BOB, WRITE, 9, 20), errno.EAGAIN),
        (Lock(ADA, WRITE, 0, 9), Lock(BOB, READ, 5, 5), errno.EAGAIN),
        (Lock(ADA, WRITE, 0, 9), Lock(BOB, WRITE, 10, 20), 0),
        (Lock(ADA, WRITE, 5, 9), Lock(BOB, WRITE, 0, 4), 0),
        (Lock(ADA, WRITE, 0, 9), Lock(ADA, WRITE, 0, 9), 0),
        (Lock(ADA, WRITE, 0, 9), Lock(BOB, NONE, 0, 9), 0),
    ],
)
def test_a_lock_keeps_others_off_the_bytes_that_it_has(locks, held, wished, answer):
    assert locks.set(FILE, held) == 0
    assert locks.set(OTHER_FILE, wished) == 0
    assert locks.set(FILE, wished) == answer


def test_a_lock_that_is_let_go_in_its_middle_stays_at_both_ends(locks):
    locks.set(FILE, Lock(ADA, WRITE, 0, 99))
    locks.set(FILE, Lock(ADA, NONE, 10, 19))
    assert locks.set(FILE, Lock(BOB, WRITE, 10, 19)) == 0
    assert locks.obstacle(FILE, Lock(BOB, READ, 0, 9)) == Lock(ADA, WRITE, 0, 9)
    assert locks.obstacle(FILE, Lock(BOB, READ, 20, 99)) == Lock(ADA, WRITE, 20, 99)


def test_a_lock_changes_its_kind_for_the_bytes_that_are_requested_anew(locks):
    locks.set(FILE, Lock(ADA, WRITE, 0, 99))
    locks.set(FILE, Lock(ADA, READ, 0, 49))
    assert locks.set(FILE, Lock(BOB, READ, 0, 49)) == 0
    assert locks.set(FILE, Lock(BOB, READ, 40, 60)) == errno.EAGAIN


def test_a_process_that_ended_or_closed_the_file_holds_nothing_any_more():
    gone = set()
    locks = Locks(is_held=lambda owner, file: owner not in gone)
    locks.set(FILE, Lock(ADA, WRITE, 0, 9))
    assert locks.set(FILE, Lock(BOB, WRITE, 0, 9)) == errno.EAGAIN
    gone.add(ADA)
    assert locks.set(FILE, Lock(BOB, WRITE, 0, 9)) == 0


def test_there_is_an_end_to_the_locks_of_one_guest(locks, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 100)
    answers = [locks.set(FILE, Lock(ADA, READ, 2 * place, 2 * place)) for place in range(102)]
    assert answers == [0] * 100 + [errno.ENOLCK] * 2


spans = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted)
wishes = st.tuples(st.sampled_from([ADA, BOB]), st.sampled_from([READ, WRITE, NONE]), spans)


@given(st.lists(wishes, max_size=20))
def test_what_is_held_is_what_a_map_of_each_byte_would_hold(requested):
    locks, model = Locks(is_held=lambda owner, file: True), {ADA: {}, BOB: {}}
    for owner, kind, (first, last) in requested:
        others = model[BOB if owner == ADA else ADA]
        clash = kind != NONE and any(WRITE in (kind, others[at]) for at in range(first, last + 1) if at in others)
        assert (locks.set(FILE, Lock(owner, kind, first, last)) == errno.EAGAIN) is clash
        if not clash:
            for at in range(first, last + 1):
                model[owner].pop(at, None)
                if kind != NONE:
                    model[owner][at] = kind
