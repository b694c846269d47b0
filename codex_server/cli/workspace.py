"""``codex-server workspace``: name the folders that sessions of the server may work in."""

import json
from pathlib import Path
from typing import Annotated

import typer

from codex_server.cli.command import as_called_here
from codex_server.cli.flags import JsonFlag, StateDirFlag, gather_flags, settings_from_flags
from codex_server.cli.table import render_table

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What callers call it, for example notes")]


def add(
    name: NameArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder on this machine")],
    read_only: Annotated[bool, typer.Option("--read-only", help="Sessions may read it, and not write")] = False,
    state_dir: StateDirFlag = None,
) -> None:
    """Let sessions have a folder as their workspace. A server that runs takes it on at its next start.

    Callers see the name, never the path. What they write to it is the folder's owner's, and stays.
    """
    from codex_server.settings.workspace_file import WorkspaceFile
    from codex_server.settings.workspaces import READ_ONLY, WorkspaceFolder, check_apart, check_name

    settings = settings_from_flags(gather_flags(None, state_dir=state_dir))
    named = WorkspaceFolder(folder.expanduser().absolute(), read_only)
    try:
        check_name(name)
        check_apart({name: named}, settings.state_dir)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not named.folder.is_dir() or str(named.folder).endswith(READ_ONLY):
        raise typer.BadParameter(f"{named.folder} is no folder that can be named; make it first", param_hint="FOLDER")
    WorkspaceFile(settings.state_dir).add(name, named)
    typer.echo(f"Added {name}: {named.folder} ({_mode(named.read_only)}). The server takes it on at its next start.")


def list_workspaces(state_dir: StateDirFlag = None, as_json: JsonFlag = False) -> None:
    """List the folders that sessions may work in, those of the settings too."""
    from codex_server.settings.workspace_file import with_stored_workspaces

    settings = with_stored_workspaces(settings_from_flags(gather_flags(None, state_dir=state_dir)))
    rows = [(name, str(each.folder), _mode(each.read_only)) for name, each in settings.workspace_folders.items()]
    if as_json:
        found = [{"name": name, "folder": folder, "mode": mode} for name, folder, mode in sorted(rows)]
        typer.echo(json.dumps({"workspaces": found}, indent=2))
    elif rows:
        typer.echo(render_table(("name", "folder", "mode"), sorted(rows)))
    else:
        typer.echo(as_called_here("no workspaces; `codex-server workspace add NAME FOLDER` names one"))


def remove(name: NameArgument, state_dir: StateDirFlag = None) -> None:
    """Take a name away; the folder stays as it is. A server that runs keeps it until its next start."""
    from codex_server.settings.workspace_file import WorkspaceFile

    settings = settings_from_flags(gather_flags(None, state_dir=state_dir))
    if not WorkspaceFile(settings.state_dir).remove(name):
        where = " (it stands in the settings: CODEX_WORKSPACES or codex.toml)" if name in settings.workspaces else ""
        raise typer.BadParameter(f"no workspace {name!r} was added here{where}", param_hint="NAME")
    typer.echo(f"Removed {name}. The server forgets it at its next start; the folder stays as it is.")


def _mode(read_only: bool) -> str:
    return "read-only" if read_only else "read-write"
