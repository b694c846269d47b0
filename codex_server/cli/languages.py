"""``codex-server languages``: the languages that this machine can run."""

import json
from typing import TYPE_CHECKING, Any

import typer

from codex_server.cli.command import as_called_here
from codex_server.cli.flags import JsonFlag, SetFlags, gather_flags, settings_from_flags
from codex_server.cli.runners import load
from codex_server.cli.table import render_table

if TYPE_CHECKING:
    from codex_server.languages import Language


def describe_language(language: "Language") -> dict[str, Any]:
    """Return a language as ``--json`` shows it; ``interpreter`` is None when it is not installed."""
    return {
        "name": language.name,
        "title": language.title,
        "version": language.version,
        "available": language.available,
        "aliases": list(language.aliases),
        "interpreter": str(language.interpreter.path) if language.interpreter else None,
        "runner": str(language.folder),
    }


def languages(assignments: SetFlags = None, as_json: JsonFlag = False) -> None:
    """List the languages: each with its version as the interpreter reports it, and its other names."""
    found = list(load(settings_from_flags(gather_flags(assignments))))
    if as_json:
        typer.echo(json.dumps({"languages": [describe_language(language) for language in found]}, indent=2))
        return
    rows = [
        (
            language.name,
            language.version or "-",
            ", ".join(language.aliases) or "-",
            str(language.interpreter.path) if language.interpreter else "not installed: `codex-server doctor`",
        )
        for language in found
    ]
    typer.echo(as_called_here(render_table(("language", "version", "other names", "interpreter"), rows)))
