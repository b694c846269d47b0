"""``codex-server doctor``: what this machine offers, what is missing, and the remedy."""

import asyncio
import json
import tempfile
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from codex_server.cli.command import as_called_here
from codex_server.cli.flags import JsonFlag, MinIsolationFlag, SetFlags, gather_flags, settings_from_flags
from codex_server.cli.runners import load
from codex_server.errors import CodexError

if TYPE_CHECKING:
    from codex_server.cli.host_checks import Finding
    from codex_server.sandboxes.base import Backend, Isolation

_WIDTH = 110
_NAME_WIDTH = len("javascript packages")
"""The longest of the names that are always shown: it aligns the groups with each other."""
_MARKS = {"ok": "ok  ", "note": "note", "lack": "LACK"}


def doctor(
    min_isolation: MinIsolationFlag = None,
    assignments: SetFlags = None,
    as_json: JsonFlag = False,
) -> None:
    """Print what this machine offers for sandboxes, the isolation level that a new sandbox reaches now, and the
    interpreters, the state folder and the address; for each missing thing its effect and the remedy.

    It writes nothing. The exit code is 0 when `codex-server serve` would start with these settings or already runs
    with them, else 1.
    """
    from codex_server.cli.host_checks import examine_docker, examine_host, examine_languages, examine_level, read_host
    from codex_server.cli.server_checks import examine_address, examine_state_folder
    from codex_server.sandboxes.base import IsolationLevel
    from codex_server.sandboxes.docker.backend import DockerBackend
    from codex_server.sandboxes.embedded.backend import EmbeddedBackend
    from codex_server.settings.workspace_file import with_stored_workspaces

    settings = with_stored_workspaces(settings_from_flags(gather_flags(assignments, min_isolation=min_isolation)))
    least = IsolationLevel[settings.min_isolation.upper()]
    languages = load(settings)
    lenient = settings.model_copy(update={"min_isolation": "confined"})
    reached, refusal = reach(lambda: EmbeddedBackend(lenient, languages))
    with tempfile.TemporaryDirectory() as folder:  # for the backend's files: a diagnosis must leave nothing behind
        temporary = settings.model_copy(update={"state_dir": Path(folder)})
        container, trouble = reach(lambda: DockerBackend(temporary, languages))
    host = examine_host(read_host(), reached.level if reached else None)
    found = [*examine_languages(languages), examine_docker(container, trouble, settings.backend)]
    if settings.backend == "docker":
        reached, refusal = container, trouble
    elif settings.backend == "auto" and container and (reached is None or reached.level < least):
        reached, refusal = container, None
    level = examine_level(reached, refusal, least)
    place = [examine_state_folder(settings), examine_address(settings)]
    would_start = all(finding.verdict != "lack" for finding in [*place, level])
    if as_json:
        shown = {"would_start": would_start, "isolation": str(reached.level) if reached else None}
        findings = [{**asdict(finding), "verdict": finding.verdict} for finding in [*host, *found, *place, level]]
        typer.echo(json.dumps({**shown, "findings": findings}, indent=2))
    else:
        typer.echo("\n\n".join(map(render_findings, (host, found, place, [level]))))
    raise typer.Exit(0 if would_start else 1)


def reach(make: "Callable[[], Backend]") -> "tuple[Isolation | None, str | None]":
    """Start the backend and return its isolation, or None and the reason why it cannot start."""

    async def started() -> "Isolation":
        async with make() as backend:
            return backend.isolation

    try:
        return asyncio.run(started()), None
    except CodexError as error:
        return None, error.detail


def render_findings(findings: "Iterable[Finding]") -> str:
    """Return one line for each finding, and below it the effect of what is missing and the remedy."""
    shown = list(findings)
    width = max([_NAME_WIDTH, *(len(finding.name) for finding in shown)])
    margin = " " * len(f"LACK  {'':{width}}  ")
    lines = []
    for finding in shown:
        lines.append(f"{_MARKS[finding.verdict]}  {finding.name:{width}}  {finding.found}")
        if finding.consequence:
            lines += _indented(margin, "so: ", finding.consequence)
        if finding.remedy:
            lines += _indented(margin, "remedy: ", finding.remedy)
    return "\n".join(lines)


def _indented(margin: str, label: str, text: str) -> list[str]:
    first, *more = as_called_here(text).splitlines()
    lines = textwrap.wrap(
        label + first,
        _WIDTH - len(margin),
        subsequent_indent=" " * len(label),
        break_on_hyphens=False,
        break_long_words=False,
    )  # a path stays in one piece, so that it can be copied
    return [margin + line for line in [*lines, *(" " * len(label) + line for line in more)]]
