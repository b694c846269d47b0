"""``packages/progress.py``: one line for each step, in place on a terminal, without control codes elsewhere."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from codex_server.packages import progress
from codex_server.packages.progress import Progress
from tests.packages.test_pip import make_wheel
from tests.waiting import until


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(text: str) -> list[str]:
    """What a terminal shows in the end: a line that was taken back is gone."""
    return [line.rpartition("\r\x1b[K")[2] for line in text.rstrip("\n").split("\n")]


def test_on_a_terminal_a_step_is_one_line_that_changes_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    with Progress("Installing the packages of Python", "Packages of Python", stream) as bar:
        bar("12 found, downloading a-package-with-a-long-name")
        middle = stream.getvalue()
        bar.done("47 installed")
    assert shown(middle) == ["Packages of Python: 12 found, download…"]
    assert re.fullmatch(r"Packages of Python: 47 installed, \d+ s", *shown(stream.getvalue()))


def test_the_line_of_a_step_that_fails_ends_before_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with pytest.raises(RuntimeError), Progress("Begin", "Title", stream):
        raise RuntimeError
    assert stream.getvalue().endswith("Begin\n")


@pytest.mark.parametrize("terminal", [None, "dumb"])
def test_elsewhere_there_is_a_line_at_each_end_and_no_control_code(
    terminal: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", terminal or "xterm")
    stream = Terminal() if terminal else io.StringIO()
    with Progress("Begin", "Title", stream) as bar:
        for number in range(150):
            bar(f"{number} of 150")
        bar.done("150 installed")
    assert re.fullmatch(r"Begin\nTitle: 150 installed, \d+ s\n", stream.getvalue())


def test_elsewhere_a_long_step_tells_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.0)
    stream = io.StringIO()
    with Progress("Begin", "Title", stream) as bar:
        bar("half")
        assert until(lambda: "Title: half, " in stream.getvalue())
    assert "\x1b" not in stream.getvalue()


def install(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As the Makefile does, but for nothing that stays."""
    command = [sys.executable, "-m", "codex_server.packages", "the fruits", str(tmp_path / "install.log"), "--dry-run"]
    nowhere = ["--no-index", "--find-links", str(tmp_path)]
    return subprocess.run(
        [*command, *nowhere, *arguments], capture_output=True, text=True, timeout=100, check=False, cwd=Path.cwd()
    )


@pytest.mark.tier("change")
def test_the_first_steps_of_make_are_told_in_lines_with_all_the_rest_in_the_log(tmp_path: Path) -> None:
    make_wheel(tmp_path, "apple", "1.2")
    ran = install(tmp_path, "apple")
    assert (ran.returncode, ran.stderr) == (0, "")
    begin, *_, end = ran.stdout.splitlines()
    assert re.fullmatch(r"Installing the fruits into \S+ \(once; .*\)", begin)
    assert re.fullmatch(r"The fruits: 1 installed, \d+ s", end)
    assert "Would install apple-1.2" in (tmp_path / "install.log").read_text()


@pytest.mark.tier("change")
def test_a_failure_of_the_first_steps_names_the_log_and_shows_its_end(tmp_path: Path) -> None:
    ran = install(tmp_path, "pear")
    assert ran.returncode == 1
    assert ran.stderr.startswith("make: the fruits could not be installed: pip said: ERROR: No matching distribution")
    assert f"The whole log is {tmp_path / 'install.log'}; it ends:\n" in ran.stderr
    assert "\n    ERROR: No matching distribution found for pear\n" in ran.stderr
