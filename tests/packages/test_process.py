import sys
from pathlib import Path

import pytest

from codex_server.packages.process import CommandFailed, command_environment, run_command


def run(program: str, folder: Path) -> tuple[list[str], list[str]]:
    said: list[str] = []
    kept = run_command([sys.executable, "-c", program], said.append, lambda line: line.upper() or None, folder=folder)
    return kept, said


def test_a_program_says_each_line_as_it_is_shortened_and_hands_all_back(tmp_path: Path) -> None:
    kept, said = run("import sys; print('one'); print(); sys.stderr.write('two\\n')", tmp_path)
    assert sorted(kept) == ["", "one", "two"]
    assert sorted(said) == ["ONE", "TWO"]


def test_a_line_is_told_while_the_program_still_runs(tmp_path: Path) -> None:
    program = "import os\nprint('begun')\nwhile not os.path.exists('seen'): pass\nprint('ended')"

    def say(line: str) -> None:
        (tmp_path / "seen").write_text(line)

    assert run_command([sys.executable, "-c", program], say, str, folder=tmp_path) == ["begun", "ended"]


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
