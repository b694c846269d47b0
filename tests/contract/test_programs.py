"""The table of programs, each in every language that can say it, on every backend and level."""

import pytest

from codex_server.errors import LanguageUnavailable
from tests.contract import endings, inputs, python, scripts, streams
from tests.contract.case import Case
from tests.contract.conftest import REAL
from tests.contract.harness import Harness
from tests.levels import out_of_reach
from tests.tiers import Tier, in_tier, tier_of_level

CASES = [*endings.CASES, *inputs.CASES, *python.CASES, *scripts.CASES, *streams.CASES]


def _rows() -> list[object]:
    rows: list[object] = []
    for case in CASES:
        for language in case.sources:
            stages = ["fake"] if language == "fake" else [name for name in REAL if _level(name) in case.levels]
            for harness in stages:
                name = f"{harness}-{language}-{case.name}"
                rows.append(in_tier(_tier(harness, case, language), harness, case, language, id=name))
    return rows


def _tier(harness: str, case: Case, language: str) -> Tier:
    """Whether every language comes to the same end is tested at each level of ours, and by night in containers too."""
    told_first = language in (next(iter(case.sources)), "fake")
    if harness == "docker":
        return Tier.CHANGE if told_first or case is CASES[0] else Tier.NIGHTLY
    strongest = harness == "fake" or tier_of_level(_level(harness)) is Tier.QUICK
    return Tier.QUICK if strongest and told_first else Tier.CHANGE


def _level(harness: str) -> str:
    """A container promises what the strongest level does."""
    return harness.partition("-")[2] or "full"


# The scope is the harness's own: without it a backend would be built for every row.
@pytest.mark.parametrize(("harness", "case", "language"), _rows(), indirect=["harness"], scope="module")
def test_a_program_comes_to_its_end(harness: Harness, case: Case, language: str) -> None:
    try:
        harness.languages.find(harness.language(language))
    except LanguageUnavailable as error:
        out_of_reach("languages", f"{language}: {error}")
    case.check(harness.run_case(case, language))


def test_every_case_has_its_own_name() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
