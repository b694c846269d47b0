"""``codex-server doctor``: what this machine offers, what is missing, and the cure."""

import asyncio
import json
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from codex_server.cli.flags import MinIsolationFlag, SetFlags, gather_flags, settings_from_flags
from codex_server.errors import CodexError

if TYPE_CHECKING:
    from codex_server.cli.findings import Finding
    from codex_server.languages import Languages
    from codex_server.sandboxes.base import Isolation
    from codex_server.settings import Settings

_WIDTH = 110
_MARKS = {"ok": "ok  ", "note": "note", "lack": "LACK"}


def doctor(
    min_isolation: MinIsolationFlag = None,
    assignments: SetFlags = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs")] = False,
) -> None:
    """Print what this machine offers for sandboxes, the isolation level that one reaches when it is made now, and the
    interpreters; for each missing thing what that means and how to mend it.

    The exit code is 0 when `codex-server serve` would start with these settings, else 1.
    """
    from codex_server.cli.findings import examine_docker, examine_host, examine_languages, examine_level, read_host
    from codex_server.languages import load_languages
    from codex_server.sandboxes.base import IsolationLevel

    settings = settings_from_flags(gather_flags(assignments, min_isolation=min_isolation))
    least = IsolationLevel[settings.min_isolation.upper()]
    languages = load_languages(settings.runners_dir, settings.packages_root)
    reached, refusal = reach_level(settings, languages)
    container, trouble = reach_docker(settings, languages)
    host = examine_host(read_host(), reached.level if reached else None)
    found = [*examine_languages(languages), examine_docker(container, trouble, settings.backend)]
    if settings.backend == "docker":
        reached, refusal = container, trouble
    elif settings.backend == "auto" and container and (reached is None or reached.level < least):
        reached, refusal = container, None
    level = examine_level(reached, refusal, least)
    would_start = reached is not None and reached.level >= least
    if as_json:
        shown = {"would_start": would_start, "isolation": str(reached.level) if reached else None}
        findings = [{**asdict(finding), "verdict": finding.verdict} for finding in [*host, *found, level]]
        typer.echo(json.dumps({**shown, "findings": findings}, indent=2))
    else:
        typer.echo("\n\n".join(map(render_findings, (host, found, [level]))))
    raise typer.Exit(0 if would_start else 1)


def reach_level(settings: "Settings", languages: "Languages") -> "tuple[Isolation | None, str | None]":
    """The level that a sandbox reaches when one is made for real, or None and why there is none."""
    from codex_server.sandboxes.embedded.backend import EmbeddedBackend

    async def reach() -> "Isolation":
        async with EmbeddedBackend(settings.model_copy(update={"min_isolation": "confined"}), languages) as backend:
            return backend.isolation

    try:
        return asyncio.run(reach()), None
    except CodexError as error:
        return None, error.detail


def reach_docker(settings: "Settings", languages: "Languages") -> "tuple[Isolation | None, str | None]":
    """What the docker backend gives with the engine and the images that are there now, or None and why it cannot."""
    from codex_server.sandboxes.docker.backend import DockerBackend

    async def reach() -> "Isolation":
        async with DockerBackend(settings, languages) as backend:
            return backend.isolation

    try:
        return asyncio.run(reach()), None
    except CodexError as error:
        return None, error.detail


def render_findings(findings: "Iterable[Finding]") -> str:
    """One line for each, and below it what its lack means and the cure."""
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.verdict]}  {finding.name:16}  {finding.found}")
        if finding.consequence:
            lines += _indented("so: ", finding.consequence)
        if finding.cure:
            lines += _indented("cure: ", finding.cure)
    return "\n".join(lines)


def _indented(label: str, text: str) -> list[str]:
    margin = " " * 24
    first, *more = text.splitlines()
    lines = textwrap.wrap(label + first, _WIDTH - len(margin), subsequent_indent=" " * len(label))
    return [margin + line for line in [*lines, *(" " * len(label) + line for line in more)]]
