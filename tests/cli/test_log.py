import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from codex_server.cli.log import TextLines
from codex_server.cli.main import app
from codex_server.service.history import ExecutionEntry
from codex_server.store.sqlite import SqliteStore
from tests.service.history import entry, keep

SECONDS = 60


def log(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["log", "--state-dir", str(folder), *arguments])


def fill(folder: Path, *entries: ExecutionEntry) -> None:
    async def write() -> None:
        store = SqliteStore(folder)
        await keep(store, *entries)
        await store.close()

    asyncio.run(write())


def test_each_execution_is_a_line_in_columns_below_a_header(tmp_path):
    fill(tmp_path, entry("exe_1"), entry("exe_2", status="timed_out", execution_time=None, user_agent=None))
    assert log(tmp_path).stdout.splitlines() == [
        "WHEN (UTC)           WHO      LANGUAGE  STATUS     SECONDS  CODE  STDOUT  STDERR  CLIENT      REQUEST",
        "2026-11-28 12:30:05  chatgpt  python    succeeded  0.250    8     3       0       curl/8.5.0  req-exe_1",
        "2026-11-28 12:30:05  chatgpt  python    timed_out  -        8     3       0       -           req-exe_2",
    ]


def test_the_last_ones_of_one_caller_can_be_chosen(tmp_path):
    fill(tmp_path, *(entry(f"exe_{n}", caller="ci" if n % 2 else "chatgpt") for n in range(6)))
    lines = log(tmp_path, "--caller", "ci", "--limit", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["execution_id"] for line in lines] == ["exe_3", "exe_5"]


def test_json_is_one_object_a_line_without_programs(tmp_path):
    kept = entry("exe_1", code="print(1)", stdout="1\n", stderr="")
    fill(tmp_path, kept)
    (line,) = log(tmp_path, "--json").stdout.splitlines()
    assert json.loads(line) == kept.model_dump(mode="json", exclude={"code", "stdout", "stderr"})


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_programs_and_output_are_shown_only_when_asked_for(tmp_path, form):
    fill(tmp_path, entry("exe_1", code="print('secret')", stdout="secret\n", stderr=""))
    assert "secret" not in log(tmp_path, *form).output
    shown = log(tmp_path, "--show-code", *form).stdout
    assert shown.count("secret") == 2


def test_whoever_asks_for_programs_that_are_not_kept_reads_which_setting_keeps_them(tmp_path):
    fill(tmp_path, entry("exe_1"))
    assert "CODEX_HISTORY_CODE" in log(tmp_path, "--show-code").stdout


def test_what_a_client_or_a_program_wrote_cannot_command_the_terminal(tmp_path):
    fill(tmp_path, entry("exe_1", user_agent="a\x1b[2J\x9bb\n", code="x", stdout="\x1b]0;owned\x07\n", stderr=""))
    shown = log(tmp_path, "--show-code").stdout
    assert not set("\x1b\x9b\x07") & set(shown)
    assert r"\x1b]0;owned\x07" in shown
    assert len(shown.splitlines()) == 4


def test_a_long_name_of_a_client_is_cut():
    _, line = TextLines(show_code=False)([entry(user_agent="x" * 200)])
    assert "x" * 37 + "..." in line
    assert "x" * 38 not in line


def test_later_lines_stay_in_the_columns_of_the_first():
    lines = TextLines(show_code=False)
    header, first = lines([entry(caller="a-long-name")])
    (later,) = lines([entry(caller="ci")])
    assert later.index("python") == first.index("python") == header.index("LANGUAGE")


def test_a_folder_without_a_history_is_named_and_stays_as_it_is(tmp_path):
    result = log(tmp_path / "none")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"no history in {tmp_path / 'none'} yet" in result.stderr
    assert not (tmp_path / "none").exists()


def test_a_history_without_entries_of_a_caller_says_so(tmp_path):
    fill(tmp_path, entry("exe_1"))
    assert f"no executions of ci in {tmp_path}" in log(tmp_path, "--caller", "ci").stderr


@pytest.mark.tier("change")
def test_follow_waits_for_the_first_and_shows_each_as_it_comes_until_ctrl_c(tmp_path):
    command = [sys.executable, "-m", "codex_server", "log", "--follow", "--json", "--state-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "waiting" in process.stderr.readline()
        for name in ("exe_1", "exe_2"):
            fill(tmp_path, entry(name))
            assert json.loads(process.stdout.readline())["execution_id"] == name
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
        assert process.stderr.read() == ""
