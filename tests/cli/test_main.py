import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from codex_server import __version__
from codex_server.cli.main import app


def codex_server(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "codex_server", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={"HOME": "/nonexistent", **environment},
    )


def commands():
    def walk(command, path):
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, (*path, name))

    return list(walk(get_command(app), ()))


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_has_a_help_page_with_a_sentence_and_examples(path: tuple[str, ...]):
    output = CliRunner().invoke(app, [*path, "--help"]).output
    assert "Examples:\n  " in output
    assert "codex-server" in output.partition("Examples:")[2]


@pytest.mark.parametrize(
    "path", [path for path in commands() if path in ((), ("token",), ("session",), ("runners",))], ids=" ".join
)
def test_the_lists_of_commands_are_whole_at_80_columns(path: tuple[str, ...]):
    output = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"}).output
    rows = [line for line in output.partition("Commands:\n")[2].partition("\n\n")[0].splitlines() if line]
    assert rows
    assert all(row.endswith(".") and not row.endswith("...") for row in rows)


def test_the_version_is_that_of_the_package():
    assert CliRunner().invoke(app, ["--version"]).output == f"codex-server {__version__}\n"


def test_help_imports_nothing_heavy():
    heavy = "fastapi", "uvicorn", "pydantic_settings", "structlog", "yaml"
    program = (
        "import sys; from codex_server.cli.main import app; from typer.testing import CliRunner; "
        f"CliRunner().invoke(app, ['--help']); print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n"


def test_wrong_settings_are_one_message_that_names_each_without_a_traceback():
    result = codex_server("config", CODEX_PORT="high", CODEX_MIN_ISOLATION="none")
    assert result.returncode == 2
    assert "CODEX_PORT" in result.stderr
    assert "CODEX_MIN_ISOLATION" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_of_ours_is_one_line_and_has_an_exit_code_of_its_own():
    result = codex_server("run", "/nonexistent/hello.py")
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr == "codex-server: /nonexistent/hello.py cannot be read: No such file or directory\n"
