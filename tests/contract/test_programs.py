"""The table of programs, each in every language that can say it, on every backend and level."""

import pytest

from codex_server.errors import LanguageUnavailable
from tests.contract import endings, givens, python, scripts
from tests.contract.case import Case
from tests.contract.conftest import REAL
from tests.contract.stage import Stage
from tests.levels import out_of_reach
from tests.tiers import Tier, in_tier, tier_of_walls

CASES = [*endings.CASES, *givens.CASES, *python.CASES, *scripts.CASES]


def _rows() -> list[object]:
    rows: list[object] = []
    for case in CASES:
        for language in case.sources:
            stages = ["fake"] if language == "fake" else [name for name in REAL if _level(name) in case.levels]
            for stage in stages:
                name = f"{stage}-{language}-{case.name}"
                rows.append(in_tier(_tier(stage, case, language), stage, case, language, id=name))
    return rows


def _tier(stage: str, case: Case, language: str) -> Tier:
    """Whether every language comes to the same end is tested at each level of ours, and by night in containers too."""
    told_first = language in (next(iter(case.sources)), "fake")
    if stage == "docker":
        return Tier.CHANGE if told_first or case is CASES[0] else Tier.NIGHTLY
    strongest = stage == "fake" or tier_of_walls(_level(stage)) is Tier.QUICK
    return Tier.QUICK if strongest and told_first else Tier.CHANGE


def _level(stage: str) -> str:
    """A container promises what the strongest level does."""
    return stage.partition("-")[2] or "full"


# The scope is the stage's own: without it a backend would be built for every row.
@pytest.mark.parametrize(("stage", "case", "language"), _rows(), indirect=["stage"], scope="module")
def test_a_program_comes_to_its_end(stage: Stage, case: Case, language: str) -> None:
    try:
        stage.languages.find(stage.language(language))
    except LanguageUnavailable as error:
        out_of_reach("languages", f"{language}: {error}")
    case.check(stage.play(case, language))


def test_every_case_has_its_own_name() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
