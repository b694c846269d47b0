"""``codex-server session``: against the HTTP door with a fake backend behind it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from codex_server.cli.connection import Connection, ServerProblem
from codex_server.cli.main import app
from codex_server.cli.session import _pages
from tests.cli.desk import SECONDS, TOKEN, Desk


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Desk() as opened:
        yield opened


def session(desk: Desk, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    verb, *rest = arguments
    return subprocess.run(
        [sys.executable, "-m", "codex_server", "session", verb, "--url", desk.url, *rest],
        input=stdin, text=True, capture_output=True, check=False, timeout=SECONDS,
        env={**os.environ, "CODEX_TOKEN": TOKEN},
    )  # fmt: skip


def quick(desk: Desk, *arguments: str) -> str:
    """The output of a command that only asks the server, run in this process."""
    verb, *rest = arguments
    done = CliRunner().invoke(app, ["session", verb, *rest, "--url", desk.url, "--token", TOKEN])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_programs_in_a_session_find_what_those_before_left(desk):
    opened = quick(desk, "open", "-l", "python", "--ttl", "60").strip()
    assert opened.startswith("ses_")
    assert session(desk, "run", opened, "-c", "set x 20\nprint set").stdout == "set\n"
    again = session(desk, "run", "--timeout", "7", opened, "-", "--", "-a", "b", stdin="get x\nargs\nresult 42\nexit 3")
    assert (again.returncode, again.stdout, again.stderr) == (3, '20\n["-a", "b"]\n42\n', "")
    assert desk.backend.executions[-1].limits.wall_seconds == 7
    refused = session(desk, "run", "-l", "bash", opened, "-c", "print 1")
    assert (refused.returncode, "opened for python alone" in refused.stderr) == (125, True)


def test_sessions_are_listed_and_closed(desk):
    assert quick(desk, "list") == "no session of yours is open there\n"
    first, second = (quick(desk, "open").strip() for _ in range(2))
    listed = quick(desk, "list").splitlines()
    assert listed[0].split() == ["ID", "STARTED", "OPENED", "EXPIRES"]
    assert [line.split()[0] for line in listed[1:]] == [second, first]
    assert quick(desk, "close", first) == ""
    assert [each["session_id"] for each in json.loads(quick(desk, "list", "--json"))["sessions"]] == [second]
    with pytest.raises(ServerProblem, match="closed by its caller"):
        quick(desk, "close", first)
    with pytest.raises(ServerProblem, match="no session of yours"):
        quick(desk, "close", "ses_none")


def test_a_list_is_read_to_its_last_page(desk, monkeypatch):
    monkeypatch.setattr("codex_server.cli.session._PAGE", 2)
    opened = [quick(desk, "open").strip() for _ in range(5)]
    assert [each["session_id"] for each in json.loads(quick(desk, "list", "--json"))["sessions"]] == opened[::-1]


def test_a_session_is_opened_in_a_named_workspace(desk):
    with pytest.raises(ServerProblem, match="this server has no named workspaces"):
        quick(desk, "open", "--workspace", "notes")


def test_an_opened_session_is_shown_whole_for_programs(desk):
    shown = json.loads(quick(desk, "open", "--json"))
    assert shown.keys() == {"session_id", "languages", "workspace", "created_at", "expires_at", "limits"}


def test_files_are_listed_with_their_sizes_and_nothing_that_a_terminal_would_obey(desk, monkeypatch):
    entries = [
        {"path": "data", "type": "folder", "size": 60, "modified": 1795877582.5},
        {"path": "data/a\x1b[31m.csv", "type": "file", "size": 12, "modified": 1795877582.5},
    ]
    asked = []

    def call(self, method, path, body=None):
        asked.append((method, path))
        return {"entries": entries, "next": None}

    monkeypatch.setattr(Connection, "call", call)
    lines = quick(desk, "files", "ses_1").splitlines()
    assert lines[1].split() == ["2026-11-28", "14:53:02", "data/"]
    assert lines[2].split() == ["12", "2026-11-28", "14:53:02", "data/a\\x1b[31m.csv"]
    assert json.loads(quick(desk, "files", "ses_1", "--json")) == {"entries": entries}
    assert asked[0] == ("GET", "/sessions/ses_1/files?limit=100")


def test_files_of_a_session_are_listed(desk):
    opened = quick(desk, "open").strip()
    session(desk, "run", opened, "-c", "write a.txt hello")
    (_, line) = quick(desk, "files", opened).splitlines()
    assert (line.split()[0], line.split()[-1]) == ("5", "a.txt")


@pytest.mark.parametrize("answer", [{}, {"sessions": 1, "next": None}, {"sessions": []}], ids=str)
def test_what_is_no_list_is_no_server_of_ours(answer, monkeypatch):
    monkeypatch.setattr(Connection, "call", lambda *_: answer)
    with pytest.raises(ServerProblem, match="not that of a Codex Server"):
        _pages(Connection("http://127.0.0.1:1", None), "/sessions", "sessions")
