"""``codex-server config``: every setting, its effective value and its source."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from codex_server.cli.flags import JsonFlag, SetFlags, gather_flags, settings_from_flags
from codex_server.cli.table import render_table
from codex_server.units import format_size

if TYPE_CHECKING:
    from codex_server.settings import Settings

MASK = "********"
_OF_OTHERS = (
    *("CODEX_FAULTS", "CODEX_REQUIRE_LEVELS", "CODEX_SOAK", "CODEX_TEST_"),  # this project's test suite
    *("CODEX_HOME", "CODEX_SANDBOX"),  # the Codex command line, another program
)
"""Prefixes of variables that look like settings but belong to other programs."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One effective setting; ``shown`` is its value as a person writes it.

    ``source`` is ``flag``, the name of its variable, ``codex.toml`` or ``default``.
    """

    name: str
    value: Any
    shown: str
    source: str
    env: str
    meaning: str


def explain_settings(
    settings: "Settings", *, flags: Iterable[str], environ: Mapping[str, str], file_keys: Iterable[str]
) -> list[SettingRow]:
    """Return each setting with its value and source; a secret that is set is masked."""
    from pydantic import SecretStr

    from codex_server.settings import ENV_PREFIX, is_size

    values = settings.model_dump(mode="json")
    variables = {name.upper() for name in environ}
    rows: list[SettingRow] = []
    for name, field in type(settings).model_fields.items():
        env = ENV_PREFIX + name.upper()
        sources = (("flag", name in flags), (env, env in variables), ("codex.toml", name in file_keys))
        source = next((label for label, present in sources if present), "default")
        value: Any = MASK if isinstance(getattr(settings, name), SecretStr) else values[name]
        shown = show_size(value) if is_size(field) else show_value(value)
        rows.append(SettingRow(name, value, shown, source, env, field.description or ""))
    return rows


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each ``CODEX_`` variable that is not a setting and so has no effect."""
    from codex_server.settings import ENV_PREFIX, Settings, suggest_settings

    warnings = []
    for variable in sorted(environ):
        name = variable.upper().removeprefix(ENV_PREFIX).lower()
        ours = variable.upper().startswith(ENV_PREFIX) and not variable.upper().startswith(_OF_OTHERS)
        if ours and name not in Settings.model_fields:
            hint = suggest_settings(name, ENV_PREFIX)
            warnings.append(f"the variable {variable} has no effect: there is no such setting; {hint}")
    return warnings


def config(assignments: SetFlags = None, as_json: JsonFlag = False) -> None:
    """Print every setting with its effective value and the source of it; secrets are masked.

    A flag takes precedence over the environment, the environment over codex.toml in the current folder, and that over
    the default.
    """
    from codex_server.configfile import read_config

    flags = gather_flags(assignments)
    settings = settings_from_flags(flags)
    rows = explain_settings(settings, flags=flags, environ=os.environ, file_keys=read_config())
    if as_json:
        typer.echo(json.dumps({row.name: asdict(row) for row in rows}, indent=2))
    else:
        header = ("setting", "value", "comes from")
        typer.echo(render_table(header, [(row.name, row.shown, row.source) for row in rows]))
    for warning in unknown_variables(os.environ):
        typer.echo(f"codex-server: {warning}", err=True)


def show_size(count: int) -> str:
    """Format bytes as the settings accept them: ``512MiB``."""
    return format_size(count).replace(" ", "")


def show_value(value: Any) -> str:
    """Format a setting's value as the environment would have it."""
    if value is None or value == "":
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
