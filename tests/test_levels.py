"""Where a level cannot be offered: a skip that CI can find by its words, or a failure where the level is required."""

import re
from pathlib import Path

import pytest

from tests.levels import LEVELS, out_of_reach

CI = (Path(__file__).parent.parent / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("required", ["", "namespaces,confined", "fuller"])
def test_a_level_that_is_not_required_is_a_skip_with_the_cause_on_one_line(
    required: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CODEX_REQUIRE_LEVELS", required)
    with pytest.raises(pytest.skip.Exception) as skipped:
        out_of_reach("full", "this host does not allow it:\n  - there are no cgroups")
    told = "level full is out of reach here: this host does not allow it: - there are no cgroups"
    assert str(skipped.value) == told


@pytest.mark.parametrize("level", [*LEVELS, "docker", "container"])
def test_a_level_that_is_required_is_a_failure(level: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CODEX_REQUIRE_LEVELS", "docker,full,namespaces,confined,container")
    with pytest.raises(pytest.fail.Exception, match=f"^level {level} is out of reach here: it is not there$"):
        out_of_reach(level, OSError("it is not there"))


def test_ci_looks_for_the_words_of_a_skip(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CODEX_REQUIRE_LEVELS", raising=False)
    (wanted,) = re.findall(r'grep -F "(.+)" "\$LOGS/skipped"', CI)
    with pytest.raises(pytest.skip.Exception, match=wanted.replace("$level", "docker")):
        out_of_reach("docker", "nobody answers")
