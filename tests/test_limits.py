from dataclasses import FrozenInstanceError, asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.errors import LimitTooLoose
from codex_server.limits import Limits

NAMES = [field.name for field in fields(Limits)]


@pytest.mark.parametrize("name", NAMES)
def test_each_limit_can_be_tightened_and_kept_but_not_loosened(name: str) -> None:
    limits = Limits()
    ceiling = getattr(limits, name)
    assert getattr(limits.tightened({name: ceiling / 2}), name) == ceiling / 2
    assert limits.tightened({name: ceiling}) == limits
    with pytest.raises(LimitTooLoose) as refusal:
        limits.tightened({name: ceiling + 1})
    assert refusal.value.pointer == f"/limits/{name}"
    assert f"ceiling of {ceiling:.0f}" in refusal.value.detail


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "memory_bytes",
            2**30,
            "1073741824 (1 GiB) is above this server's ceiling of 536870912 (512 MiB)",
        ),
        (
            "memory_bytes",
            2.0**40,
            "1099511627776 (1024 GiB) is above this server's ceiling of 536870912 (512 MiB)",
        ),
        ("cpu_seconds", 30.5, "30.5 is above this server's ceiling of 30"),
        ("cpu_seconds", 30.00000001, "30.00000001 is above this server's ceiling of 30"),
        ("processes", 1_000_000, "1000000 is above this server's ceiling of 64"),
    ],
)
def test_what_is_asked_for_and_the_ceiling_can_be_read_and_compared(name: str, value: float, said: str) -> None:
    with pytest.raises(LimitTooLoose) as refusal:
        Limits().tightened({name: value})
    most = getattr(Limits(), name)
    assert refusal.value.detail == f"{said}; ask for at most {most:.0f}, or leave it out to get that"


def test_limits_that_count_stay_whole_numbers() -> None:
    assert type(Limits().tightened({"processes": 3.0}).processes) is int
    assert type(Limits().tightened({"wall_seconds": 3}).wall_seconds) is float


def test_one_loose_limit_among_tight_ones_refuses_all() -> None:
    with pytest.raises(LimitTooLoose) as refusal:
        Limits().tightened({"wall_seconds": 1, "processes": 1000})
    assert refusal.value.pointer == "/limits/processes"


def test_every_loose_limit_is_told_and_no_tight_one() -> None:
    assert Limits().too_loose({"processes": 1000, "cpu_seconds": 100, "memory_bytes": 2**20}) == {
        "processes": "1000 is above this server's ceiling of 64; ask for at most 64, or leave it out to get that",
        "cpu_seconds": "100 is above this server's ceiling of 30; ask for at most 30, or leave it out to get that",
    }


@given(st.dictionaries(st.sampled_from(NAMES), st.floats(0, 2**40)))
def test_nothing_that_is_asked_for_makes_a_limit_looser(wanted: dict[str, float]) -> None:
    limits = Limits()
    try:
        tightened = limits.tightened(wanted)
    except LimitTooLoose:
        assert any(value > getattr(limits, name) for name, value in wanted.items())
    else:
        assert all(asdict(tightened)[name] <= asdict(limits)[name] for name in NAMES)


def test_limits_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Limits().processes = 10**6  # type: ignore[misc]
