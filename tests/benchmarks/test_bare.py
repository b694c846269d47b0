import sys

import pytest

from benchmarks.bare import Bare, BareStartFailed, Lanes, Starts


def test_a_start_takes_time_and_its_output_is_checked():
    assert Bare((sys.executable, "-I", "-S", "-c", "print(1)"), b"1\n").start() > 0


@pytest.mark.parametrize("code", ["print(2)", "print(1); raise SystemExit(3)"])
def test_another_output_or_exit_code_is_no_sample(code):
    with pytest.raises(BareStartFailed, match="wait status"):
        Bare((sys.executable, "-I", "-S", "-c", code), b"1\n").start()


def test_a_bare_start_sees_a_small_environment_of_its_own(monkeypatch):
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    code = "import os; print(sorted(os.environ))"

    bare = Bare((sys.executable, "-I", "-S", "-c", code), b"['LANG', 'PATH', 'PYTHONPATH']\n", {"PYTHONPATH": "x"})

    assert bare.start() > 0


def test_lanes_start_side_by_side_and_add_up():
    with Lanes(2) as lanes:
        starts = lanes.run(Bare((sys.executable, "-I", "-S", "-c", "print(1)"), b"1\n"), 0.3)

    assert starts.seconds == 0.3
    assert starts.cpu_seconds >= 0


def test_the_rate_of_starts_is_by_the_second():
    assert Starts(30, 2.0, 0.3).rate == 15
