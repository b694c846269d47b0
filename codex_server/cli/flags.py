"""The flags that set settings: those that commands share, and how they become one mapping.

A flag takes precedence over the environment, which takes precedence over ``codex.toml``.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codex_server.errors import SettingsInvalid

if TYPE_CHECKING:
    from codex_server.settings import Settings

_SHORTER = {"api_token": "--token", "data_packages": "--no-data"}
"""The flags that have another name than their setting."""

SetFlags = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting of `codex-server config`; repeatable"),
]
StateDirFlag = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="FOLDER", help="Folder for what must survive a restart: tokens, packages"),
]
MinIsolationFlag = Annotated[
    str | None,
    typer.Option(
        "--min-isolation", metavar="LEVEL", help="Refuse to run below this level: confined, namespaces or full"
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object, for programs")]


class Flags(dict[str, object]):
    """The settings that flags set; ``written`` maps those with their own flag to it."""

    def __init__(self, settings: Mapping[str, object], written: Mapping[str, str]) -> None:
        super().__init__(settings)
        self.written = written


def gather_flags(assignments: Iterable[str] | None, **named: object) -> Flags:
    """Return the settings that flags set; the ``named`` ones take precedence over those of ``--set``."""
    given = {name: value for name, value in named.items() if value is not None}
    written = {name: _SHORTER.get(name, f"--{name.replace('_', '-')}") for name in given}
    return Flags({**dict(map(_parse_assignment, assignments or ())), **given}, written)


def settings_from_flags(flags: Flags) -> "Settings":
    """Return the effective settings. Raises ``SettingsInvalid``, which names every invalid one."""
    from codex_server.settings import load_settings

    return load_settings(flags, flags.written)


def _parse_assignment(text: str) -> tuple[str, str]:
    from codex_server.settings import ENV_PREFIX, Settings, suggest_settings

    name, sign, value = text.partition("=")
    name = name.strip().lower().replace("-", "_").removeprefix(ENV_PREFIX.lower())
    if sign and name in Settings.model_fields:
        return name, value
    if not sign:
        raise SettingsInvalid(f"--set {text} has no value; write --set NAME=VALUE, for example --set max_timeout=60")
    raise SettingsInvalid(f"--set {text}: there is no setting {name!r}; {suggest_settings(name)}")
