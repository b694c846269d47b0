"""Which tests run when, beside which others, and that no level is left to nobody."""

import os
from types import SimpleNamespace

import pytest

from tests import tiers
from tests.conftest import _group_of, _tier_of
from tests.host_snapshot import GUEST_IDS
from tests.levels import LEVELS
from tests.tiers import Tier, by_tier, examples, in_tier, sampled, tier_of_level, tier_of_load


def test_a_worker_is_told_the_group_of_each_test(request: pytest.FixtureRequest):
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("the tests run in one process")
    assert request.node.nodeid.endswith("@test_tiers")


@pytest.mark.parametrize(("tier", "held"), [("quick", 1), ("change", 2), ("nightly", 3)])
def test_a_tier_holds_itself_and_the_smaller_ones(tier: str, held: int):
    assert [Tier(tier).holds(other) for other in Tier] == [True] * held + [False] * (3 - held)


def test_a_tier_that_there_is_not_is_refused_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CODEX_TEST_TIER", "fast")
    with pytest.raises(pytest.UsageError, match="there is no tier 'fast'; there are quick, change, nightly"):
        tiers.chosen()


def test_a_row_of_the_smallest_tier_bears_no_mark_and_others_name_theirs():
    assert in_tier(Tier.QUICK, 1).marks == []
    (mark,) = in_tier(Tier.NIGHTLY, 1).marks
    assert (mark.name, mark.args) == ("tier", (Tier.NIGHTLY,))  # type: ignore[union-attr]


def test_of_a_long_table_one_row_in_four_runs_before_a_commit_and_none_is_lost():
    rows = sampled("abcdefgh")
    assert [row.values for row in rows] == [(name,) for name in "abcdefgh"]
    assert [row.values[0] for row in rows if not row.marks] == ["a", "e"]


def test_a_change_is_tested_at_every_level_and_in_containers():
    assert {tier_of_level(place) for place in (*LEVELS, "docker")} == {Tier.QUICK, Tier.CHANGE}


def test_root_and_an_unprivileged_user_share_the_levels_of_heavy_tests():
    by_root, by_user = (
        {level for level in LEVELS if tier_of_load(level, root=root) is Tier.CHANGE} for root in (True, False)
    )
    assert by_root | by_user == set(LEVELS)
    assert not by_root & by_user


@pytest.mark.parametrize(
    ("level", "row", "tier"), [("docker", 0, Tier.QUICK), ("docker", 1, Tier.NIGHTLY), ("full", 1, Tier.QUICK)]
)
def test_of_what_both_back_ends_share_containers_get_one_row(level: str, row: int, tier: Tier):
    given = SimpleNamespace(params={"level": level, "program": "x"}, indices={"level": 3, "program": row})
    item = SimpleNamespace(
        callspec=given, iter_markers=lambda name: [], get_closest_marker=lambda name: name == "inside"
    )
    assert _tier_of(item) is tier  # type: ignore[arg-type]


def test_a_variable_overrules_the_number_of_a_tier(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiers, "TIER", Tier.NIGHTLY)
    assert by_tier(change=1, nightly=2, variable="CODEX_TEST_NUMBER") == 2
    monkeypatch.setenv("CODEX_TEST_NUMBER", "3")
    assert by_tier(change=1, nightly=2, variable="CODEX_TEST_NUMBER") == 3


@pytest.mark.parametrize(("tier", "count"), [(Tier.QUICK, 10), (Tier.CHANGE, 40), (Tier.NIGHTLY, 800)])
def test_properties_are_tried_with_more_examples_in_a_larger_tier(
    monkeypatch: pytest.MonkeyPatch, tier: Tier, count: int
):
    monkeypatch.setattr(tiers, "TIER", tier)
    assert examples(40) == count


@pytest.mark.parametrize(
    ("place", "given", "group"),
    [
        ("escape/test_bounds.py", {"level": "full"}, "escape-full"),
        ("contract/test_programs.py", {"harness": "embedded-full"}, "contract-full"),
        ("contract/test_programs.py", {"harness": "docker"}, "docker"),
        ("escape/test_bounds.py", {"level": "docker"}, "docker"),
        ("faults/test_kills.py", {"level": "full"}, "faults/test_kills"),
        ("api/test_health.py", None, "api/test_health"),
    ],
)
def test_tests_that_share_a_backend_run_on_one_worker(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    given: dict[str, str] | None,
    group: str,
):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    item = SimpleNamespace(path=request.path.parent / place, callspec=given and SimpleNamespace(params=given))
    assert _group_of(item) == group  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["escape/test_bounds.py", "load/test_soak.py", "faults/test_kills.py"])
def test_without_root_what_shares_one_limit_of_processes_takes_turns(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, place: str
):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    item = SimpleNamespace(path=request.path.parent / place, callspec=SimpleNamespace(params={"level": "confined"}))
    assert _group_of(item) == "confined"  # type: ignore[arg-type]


def test_the_ids_of_guests_are_ids_that_the_kernel_has():
    assert GUEST_IDS.start >= 1_000_000_000
    assert GUEST_IDS.stop <= 2**32 - 2
