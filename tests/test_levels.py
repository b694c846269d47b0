"""Where a level cannot be offered: a skip that CI can find by its words, or a failure where the level is required."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import pytest_runtest_setup
from tests.levels import NAMES, needs, out_of_reach, required

CI = (Path(__file__).parent.parent / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("required", ["", "namespaces,confined", ",confined"])
def test_a_level_that_is_not_required_is_a_skip_with_the_cause_on_one_line(
    required: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CODEX_REQUIRE_LEVELS", required)
    with pytest.raises(pytest.skip.Exception) as skipped:
        out_of_reach("full", "this host does not allow it:\n  - there are no cgroups")
    told = "full is out of reach here: this host does not allow it: - there are no cgroups"
    assert str(skipped.value) == told


@pytest.mark.parametrize("level", list(NAMES))
def test_a_level_that_is_required_is_a_failure(level: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CODEX_REQUIRE_LEVELS", ",".join(NAMES))
    with pytest.raises(pytest.fail.Exception, match=f"^{level} is out of reach here: it is not there$"):
        out_of_reach(level, OSError("it is not there"))


def test_ci_looks_for_the_words_of_a_skip(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CODEX_REQUIRE_LEVELS", raising=False)
    (wanted,) = re.findall(r'grep -F "(.+)" "\$LOGS/skipped"', CI)
    with pytest.raises(pytest.skip.Exception, match=wanted.removeprefix(": ").replace("$level", "docker")):
        out_of_reach("docker", "nobody answers")


def test_a_name_that_there_is_not_is_refused_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CODEX_REQUIRE_LEVELS", "full,fuller")
    with pytest.raises(ValueError, match=r"there is no fuller; there are full, namespaces, .*docker"):
        required()


def test_ci_requires_only_names_that_there_are():
    rows = re.findall(r"^\s*[A-Z]+(?:_LEVELS)?=((?:\$PARTS,)?[a-z6-]+(?:,[a-z0-9-]+)+)$", CI, re.MULTILINE)
    assert len(rows) == 5
    assert {name for row in rows for name in row.split(",")} - {"$PARTS"} <= NAMES.keys()


def test_a_need_that_is_not_met_keeps_the_test_from_running(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CODEX_REQUIRE_LEVELS", raising=False)
    met, missing = (needs("ipv6", reachable, "there is none").mark for reachable in (True, False))
    pytest_runtest_setup(SimpleNamespace(iter_markers=lambda name: [met]))  # type: ignore[arg-type]
    with pytest.raises(pytest.skip.Exception, match=r"^ipv6 is out of reach here: there is none$"):
        pytest_runtest_setup(SimpleNamespace(iter_markers=lambda name: [met, missing]))  # type: ignore[arg-type]
