"""The table of programs, each in every language that can say it, on every backend and level."""

import pytest

from codex_server.errors import LanguageUnavailable
from tests.contract import endings, givens, python, scripts
from tests.contract.case import Case
from tests.contract.conftest import REAL
from tests.contract.stage import Stage

CASES = [*endings.CASES, *givens.CASES, *python.CASES, *scripts.CASES]


def _rows() -> list[object]:
    rows: list[object] = []
    for case in CASES:
        for language in case.sources:
            stages = ["fake"] if language == "fake" else [name for name in REAL if _level(name) in case.levels]
            rows += [pytest.param(stage, case, language, id=f"{stage}-{language}-{case.name}") for stage in stages]
    return rows


def _level(stage: str) -> str:
    """A container promises what the strongest level does."""
    return stage.partition("-")[2] or "full"


@pytest.mark.parametrize(("stage", "case", "language"), _rows(), indirect=["stage"])
def test_a_program_comes_to_its_end(stage: Stage, case: Case, language: str) -> None:
    try:
        stage.languages.find(stage.language(language))
    except LanguageUnavailable as error:
        pytest.skip(f"{language}: {error}")
    case.check(stage.play(case, language))


def test_every_case_has_its_own_name() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
