from pathlib import Path

from codex_server.cli.command import as_called_here, own_command


def test_the_command_is_named_as_it_can_be_called_from_here(tmp_path: Path):
    program = tmp_path / ".venv" / "bin" / "codex-server"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    python = program.parent / "python"
    assert own_command(python, tmp_path, str(program.parent)) == "codex-server"
    assert own_command(python, tmp_path, "/nonexistent") == ".venv/bin/codex-server"
    assert own_command(python, Path("/elsewhere"), None) == str(program)


def test_a_message_names_each_command_as_it_works_here():
    told = "no token; `codex-server token list` shows them, `codex-server doctor` tells more"
    assert as_called_here(told, ".venv/bin/codex-server") == told.replace("`codex", "`.venv/bin/codex")


def test_what_is_no_command_stays_as_it_is():
    told = "perhaps by another codex-server; images are `codex-server-python`"
    assert as_called_here(told, ".venv/bin/codex-server") == told
