import io
import sys
from pathlib import Path

import pytest

from codex_server.packages.process import CommandFailed, ProgressCallback, command_environment, quote_end, run_command


def run(program: str, folder: Path) -> tuple[list[str], list[str], str]:
    steps: list[str] = []
    log = io.StringIO()
    kept = run_command(
        [sys.executable, "-c", program],
        ProgressCallback(steps.append, log),
        lambda line: line.upper() or None,
        folder=folder,
    )
    return kept, steps, log.getvalue()


def test_a_program_says_each_line_as_it_is_shortened_and_hands_all_back(tmp_path: Path) -> None:
    kept, steps, log = run("print('one', flush=True); print(); import sys; sys.stderr.write('two\\n')", tmp_path)
    assert kept == ["one", "", "two"]
    assert steps == ["ONE", "TWO"]
    command, *rest = log.splitlines()
    assert command.startswith(f"$ {sys.executable} -c ")
    assert rest == ["one", "== ONE", "", "two", "== TWO"]


def test_the_end_of_a_log_is_quoted_with_its_place(tmp_path: Path) -> None:
    log = tmp_path / "install.log"
    log.write_text("\n".join([*map(str, range(30)), "", ""]))
    first, *rest = quote_end(log).splitlines()
    assert first == f"The whole log is {log}; it ends:"
    assert rest == [f"    {number}" for number in range(18, 30)]


def test_a_line_is_told_while_the_program_still_runs(tmp_path: Path) -> None:
    program = "import os\nprint('begun')\nwhile not os.path.exists('seen'): pass\nprint('ended')"

    def report(line: str) -> None:
        (tmp_path / "seen").write_text(line)

    steps = ProgressCallback(report, io.StringIO())
    assert run_command([sys.executable, "-c", program], steps, str, folder=tmp_path) == ["begun", "ended"]


def test_a_program_that_fails_tells_code_and_last_words(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as failure:
        run("import sys; print('why'); sys.exit(3)", tmp_path)
    assert (failure.value.code, failure.value.text) == (3, "why")


def test_what_a_program_writes_is_readable_to_everyone(tmp_path: Path) -> None:
    run("open('file', 'w')", tmp_path)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_program_gets_the_operator_s_proxy_but_no_token_of_ours() -> None:
    given = {"https_proxy": "http://proxy", "PIP_INDEX_URL": "u", "CODEX_API_TOKEN": "t", "PYTHONPATH": "p"}
    environment = command_environment({**given, "PIP_USER": "1", "LC_ALL": "de_DE.UTF-8"})
    assert environment == {
        "https_proxy": "http://proxy",
        "PIP_INDEX_URL": "u",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }
