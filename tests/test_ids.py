import re

import time_machine

from codex_server.ids import made_at, new_id

SHAPE = re.compile(r"exe_[0-9a-hjkmnp-tv-z]{26}")


def test_an_id_has_its_prefix_and_a_fixed_shape() -> None:
    assert SHAPE.fullmatch(new_id("exe"))


def test_ids_of_one_moment_differ() -> None:
    with time_machine.travel("2026-01-01", tick=False):
        made = {new_id("exe") for _ in range(1000)}
    assert len(made) == 1000
    assert len({name[:14] for name in made}) == 1, "they share the moment"


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = []
    for moment in ("1999-12-31", "2026-01-01T00:00:00", "2026-01-01T00:00:00.001", "2200-01-01"):
        with time_machine.travel(moment, tick=False):
            made.append(new_id("exe"))
    assert made == sorted(made)


def test_the_first_ten_characters_are_milliseconds() -> None:
    moments = ("2026-01-01T00:00:00", "2026-01-01T00:00:00.001", "2026-01-01T00:00:00.002")
    made = []
    for moment in moments:
        with time_machine.travel(moment, tick=False):
            made.append(new_id("exe")[:14])
    assert len(set(made)) == len(moments)


def test_the_moment_of_an_id_can_be_read_and_what_is_no_id_has_none() -> None:
    with time_machine.travel("2026-01-01T00:00:00Z", tick=False):
        assert made_at(new_id("fil")) == 1767225600.0
    for other in ("", "fil_", "fil_" + "u" * 26, "fil_" + "0" * 25, "fil_" + "é" * 26):
        assert made_at(other) is None
