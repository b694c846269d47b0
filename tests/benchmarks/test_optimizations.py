import shutil

import pytest

from benchmarks.__main__ import read_arguments
from benchmarks.rows.optimizations import OPTIMIZATIONS, ROOT, Optimization
from benchmarks.suite import DEFAULT_NAMES


@pytest.mark.parametrize("optimization", OPTIMIZATIONS, ids=lambda one: one.name)
def test_an_optimization_can_be_switched_off_in_a_copy_of_its_agent(optimization, tmp_path):
    copy = tmp_path / optimization.file
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / optimization.file, copy)
    shipped = copy.read_text("utf-8")
    switch = next(line for line in shipped.splitlines() if "OPTIMIZATIONS = " in line)

    optimization.switch_off(tmp_path)

    assert optimization.name in switch
    assert copy.read_text("utf-8") == shipped.replace(switch, switch.replace(optimization.name, ""))


def test_an_optimization_that_no_agent_has_is_not_measured_as_if_it_were_off(tmp_path):
    (tmp_path / "agent.cjs").write_text("const OPTIMIZATIONS = new Set(['other']);\n")

    with pytest.raises(ValueError, match=r"agent\.cjs: gone is in 0 lines"):
        Optimization("gone", "agent.cjs", "javascript", "").switch_off(tmp_path)


def test_optimizations_are_measured_only_when_they_are_asked_for():
    assert read_arguments(["--only", "optimizations"]).only == ["optimizations"]
    assert "optimizations" not in DEFAULT_NAMES
