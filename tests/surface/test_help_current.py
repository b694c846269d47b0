from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from codex_server.cli.main import app
from docs import generate

ROOT = Path(__file__).parents[2]


def test_the_page_holds_every_help_page_as_it_is_now():
    page = ROOT / "docs" / "cli.md"
    assert page.read_text() == generate.pages()[page], "run `make docs`"


def test_the_pages_are_what_the_commands_print():
    for name, text in generate.help_pages(get_command(app), "codex-server"):
        words = [*name.split()[1:], "--help"]
        printed = CliRunner().invoke(
            app,
            words,
            prog_name="codex-server",
            terminal_width=generate.HELP_WIDTH,
            max_content_width=generate.HELP_WIDTH,
        )
        assert printed.output.strip() == text


def test_every_command_is_on_the_page():
    page = (ROOT / "docs" / "cli.md").read_text()
    for name in get_command(app).commands:
        assert f"## `codex-server {name}`" in page


def test_no_help_page_is_wider_than_a_terminal():
    for name, text in generate.help_pages(get_command(app), "codex-server"):
        assert max(map(len, text.splitlines())) <= generate.HELP_WIDTH, name


def test_a_stale_page_is_named_and_fails_the_check(tmp_path: Path, monkeypatch, capsys):
    stale = tmp_path / "cli.md"
    stale.write_text("old")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "pages", lambda: {stale: "new"})
    assert generate.refresh(only_check=True) == 1
    assert stale.read_text() == "old"
    assert "out of date: cli.md" in capsys.readouterr().out
    assert generate.refresh(only_check=False) == 0
    assert stale.read_text() == "new"
