import subprocess
import sys

import pytest

from benchmarks.bare import Bare, BareStartFailed, Lanes, Starts, make_plain_python
from codex_server.interpreters import find_interpreter


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
    assert (starts.cpu_seconds > 0) is (starts.count > 0), starts


def test_the_rate_of_starts_is_by_the_second():
    assert Starts(30, 2.0, 0.3).rate == 15


def test_a_plain_python_is_the_same_interpreter_with_no_packages(tmp_path):
    interpreter = find_interpreter("python")
    assert interpreter is not None
    code = "import os, sys; print(os.path.realpath(sys.executable), [p for p in sys.path if p.endswith('-packages')])"

    plain = make_plain_python(interpreter.path, tmp_path / "plain")

    kept = [str(tmp_path / "plain" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages")]
    seen = subprocess.run([plain, "-c", code], capture_output=True, text=True, check=True).stdout.split(" ", 1)
    assert seen[0] == str(interpreter.path.resolve())
    assert seen[1].strip() in ("[]", str(kept))
