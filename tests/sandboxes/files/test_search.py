"""Search, by Python and by what ripgrep prints."""

import base64
import json
import re
import shlex
import shutil
import signal

import pytest

from codex_server.sandboxes.files import search as module
from codex_server.sandboxes.files import tree
from codex_server.sandboxes.files.problem import Problem
from codex_server.sandboxes.files.search import Query, search


@pytest.fixture(autouse=True)
def no_ripgrep(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    if shutil.which("rg"):
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def fill(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def found(workspace, pattern, most=200, **given):
    reply = search(workspace, Query(pattern, **given), most=most)
    return [(match["path"], match["line"], match["text"]) for match in reply["matches"]]


def test_python_finds_lines_by_path_and_number(workspace, folder):
    fill(folder, b_txt=b"needle\n", a_py=b"no\nx = needle\r\n", sub__c_py=b"NEEDLE", bin=b"\0needle")
    assert found(workspace, "needle") == [("a.py", 2, "x = needle"), ("b.txt", 1, "needle")]
    assert found(workspace, "needle$", ignore_case=True, glob="*.py") == [("sub/c.py", 1, "NEEDLE")]
    assert found(workspace, "needle", path="sub", ignore_case=True) == [("sub/c.py", 1, "NEEDLE")]


def test_python_takes_patterns_of_any_script_and_lines_that_are_no_text(workspace, folder):
    fill(folder, a=b"gr\xc3\xbc\xc3\x9fe\n\xffx\n\x0cform\xe2\x80\xa8feed\n")
    assert found(workspace, "GR[äü]SSE|grü.e", ignore_case=True) == [("a", 1, "grüße")]
    assert found(workspace, "x") == [("a", 2, "\ufffdx")]
    assert [line for _, line, _ in found(workspace, "feed")] == [3]


def test_python_leaves_out_version_control_and_links(workspace, folder):
    for name in (".git", "node_modules", "src/__pycache__"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a").write_text("secret")
    (folder / "way").symlink_to("../outside")
    (folder / "last").symlink_to("../outside/secret.txt")
    assert found(workspace, "secret") == []
    with pytest.raises(OSError):
        search(workspace, Query("secret", path="way"))


def test_results_are_capped_and_lines_are_cut(workspace, folder):
    fill(folder, a=b"x" * 2000 + b"\nx\nx\n")
    reply = search(workspace, Query("x"), most=2)
    assert (len(reply["matches"]), reply["truncated"], reply["engine"]) == (2, True, "python")
    assert len(reply["matches"][0]["text"]) == 500
    assert not search(workspace, Query("x"), most=3)["truncated"]


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "x{99999999999999999999}", "(?P<a>"])
def test_a_pattern_that_is_none_is_refused(workspace, pattern):
    with pytest.raises(Problem) as problem:
        search(workspace, Query(pattern))
    assert problem.value.code == "bad-pattern"


@pytest.mark.parametrize("ask", [lambda w: search(w, Query("(a+)+$")), lambda w: tree.tree(w, glob="*a" * 30 + "*b")])
def test_a_pattern_that_never_ends_within_one_text_is_ended_in_time(workspace, folder, monkeypatch, ask):
    (folder / ("a" * 200)).write_bytes(b"a" * 200 + b"!\n")
    for each in (module, tree):
        monkeypatch.setattr(each, "SECONDS", 0.05)
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(Problem) as problem:
        ask(workspace)
    assert problem.value.code == "timeout"
    assert signal.getsignal(signal.SIGALRM) is before
    fill(folder, b=b"x\n")
    monkeypatch.undo()
    assert found(workspace, "x") == [("b", 1, "x")]


def text(value):
    return {"text": value} if isinstance(value, str) else {"bytes": base64.b64encode(value).decode()}


def match(path, line, value):
    return json.dumps({"type": "match", "data": {"path": text(path), "lines": text(value), "line_number": line}})


@pytest.fixture
def ripgrep(tmp_path, monkeypatch):
    """A program of that name, which prints this and keeps what it was asked."""

    def make(*lines, errors="", code=0, then=""):
        program = tmp_path / "bin" / "rg"
        script = f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/asked\npwd -P > {tmp_path}/where\n"
        script += "".join(f"printf '%s\\n' {shlex.quote(line)}\n" for line in lines)
        script += f"printf '%s' {shlex.quote(errors)} >&2\n{then}\nexit {code}\n"
        program.write_text(script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    return make


def test_ripgrep_is_asked_in_the_folder_that_was_opened(workspace, folder, ripgrep, tmp_path):
    (folder / "sub").mkdir()
    ripgrep('{"type": "begin"}', match("./a.py", 3, "x = 1\n"), '{"type": "summary"}')
    reply = search(workspace, Query("-x", path="sub", glob="*.py", ignore_case=True))
    assert reply["matches"] == [{"path": "sub/a.py", "line": 3, "text": "x = 1"}]
    assert reply["engine"] == "ripgrep"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[-4:] == ["-e", "-x", "--", "."]
    assert {"--ignore-case", "--no-config", "*.py"} <= set(asked)
    assert (tmp_path / "where").read_text().strip() == str(folder / "sub")


def test_what_ripgrep_finds_may_be_no_text(workspace, ripgrep):
    ripgrep(match(b"./\xff", 1, b"caf\xe9\r\n"))
    assert found(workspace, "caf") == [("\ufffd", 1, "caf\ufffd")]


def test_more_than_was_asked_for_is_cut_and_ripgrep_ended(workspace, ripgrep):
    ripgrep(*[match("a", number, "x") for number in range(50)], then="exec sleep 1000")
    reply = search(workspace, Query("x"), most=10)
    assert (len(reply["matches"]), reply["truncated"]) == (10, True)


def test_a_pattern_that_ripgrep_does_not_take_is_refused(workspace, ripgrep):
    ripgrep(errors="regex parse error: (", code=2)
    with pytest.raises(Problem, match=re.escape("regex parse error: (")):
        search(workspace, Query("("))


def test_a_ripgrep_that_finds_nothing_or_may_not_read_all_is_no_error(workspace, ripgrep):
    ripgrep(code=1)
    assert found(workspace, "x") == []
    ripgrep(match("a", 1, "x"), code=2)
    assert found(workspace, "x") == [("a", 1, "x")]


def test_a_ripgrep_that_prints_nothing_is_ended_in_time(workspace, ripgrep, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.0)
    ripgrep(then="exec sleep 1000")
    with pytest.raises(Problem) as problem:
        search(workspace, Query("x"))
    assert problem.value.code == "timeout"
