"""The start message of ``codex-server serve``: address, isolation, and an example of the first call."""

import json
import shlex
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self

from codex_server import __version__
from codex_server.cli.command import as_called_here
from codex_server.languages import Language
from codex_server.sandboxes.base import Backend, Isolation, IsolationLevel

if TYPE_CHECKING:
    from codex_server.settings import Settings

_BODY = json.dumps({"code": "print(6 * 7)"})
_MARGIN = " " * 13


class TokenSource(StrEnum):
    """Where the accepted tokens come from."""

    STORE = "store"
    """In the state folder."""
    SETTING = "setting"
    """The one of ``CODEX_API_TOKEN``."""
    NONE = "none"
    """No token is required (``allow_no_auth``)."""

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        """Return the source that ``settings`` define."""
        if settings.api_token is not None:
            return cls("setting")
        return cls("none") if settings.allow_no_auth else cls("store")


@dataclass(frozen=True, slots=True)
class Greeting:
    """The content of the start message. ``token`` is set only by the start that made it: it is shown once."""

    url: str
    public_url: str | None
    backend: str
    """The backend (``describe_backend``)."""
    isolation: Isolation
    token: str | None
    token_source: TokenSource
    state_dir: Path
    seconds: float
    command: str
    """How this person calls ``codex-server``."""
    packages: str
    """The packages that programs can import (``describe_packages``)."""
    state_dir_option: str = ""
    """The option with which the token commands use the same state folder (``state_dir_option``)."""


def state_dir_option(folder: Path, default: Path) -> str:
    """Return `` --state-dir FOLDER`` with an absolute path, or nothing for the default folder."""
    return "" if folder == default else f" --state-dir {shlex.quote(str(folder.absolute()))}"


def describe_backend(backend: Backend) -> str:
    """Return the backend's name, and the reason when it replaces the embedded one."""
    if backend.in_place_of is None:
        return backend.name
    causes = " ".join(line.strip(" -") for line in backend.in_place_of.splitlines())
    return f"{backend.name}, because the embedded backend cannot start here: {causes}"


def describe_packages(languages: Iterable[Language], *, switched_on: bool) -> str:
    """Describe the installed packages by language; for missing ones, how to install them."""
    if not switched_on:
        return "standard libraries only: switched off (data_packages)"
    with_packages = [language for language in languages if language.wanted or language.packages]
    return "; ".join(map(_packages_of, with_packages)) or "standard libraries only"


def _packages_of(language: Language) -> str:
    if language.packages is None:
        return f"{language.title} not installed: `codex-server runners install {language.name}`"
    return f"{language.title} with {len(language.packages.packages)}"


def render_greeting(greeting: Greeting) -> str:
    """Return the whole message; its ``curl`` line works when pasted (with a token in ``$TOKEN`` if it is not known)."""
    known = greeting.token is not None or greeting.token_source is TokenSource.NONE
    lines = [
        f"Codex Server {__version__} answers at {greeting.url} after {greeting.seconds:.1f} s",
        *([f"  public     {greeting.public_url}"] if greeting.public_url else []),
        *_wrapped(f"  backend    {greeting.backend}"),
        f"  isolation  {greeting.isolation.level}: {greeting.isolation.summary}",
        *_shortfall(greeting.isolation),
        f"  packages   {greeting.packages}",
        f"  documents  {greeting.url}/docs",
        *_token_lines(greeting),
        "",
        "Try it:" if known else "Try it, with a token in the variable TOKEN:",
        "",
        f"  {curl_line(greeting)}",
        "",
        "Ctrl-C stops it: running executions finish first.",
    ]
    return as_called_here("\n".join(lines), greeting.command)


def curl_line(greeting: Greeting) -> str:
    """Return one call of ``/execute``."""
    call = f"curl -sS {shlex.quote(f'{greeting.url}/execute')}"
    if greeting.token_source is not TokenSource.NONE:
        call += f' -H "Authorization: Bearer {greeting.token or "$TOKEN"}"'
    return f"{call} -H 'Content-Type: application/json' -d {shlex.quote(_BODY)}"


def _shortfall(isolation: Isolation) -> list[str]:
    if not isolation.shortfall:
        return []
    beginning = _MARGIN if isolation.level is IsolationLevel.FULL else f"{_MARGIN}not stronger because "
    return _wrapped(beginning + "; ".join(isolation.shortfall))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 110, subsequent_indent=_MARGIN)


def _token_lines(greeting: Greeting) -> list[str]:
    if greeting.token_source is TokenSource.NONE:
        return ["  token      not required: anyone who reaches this address can run code"]
    if greeting.token_source is TokenSource.SETTING:
        return ["  token      the one in CODEX_API_TOKEN"]
    if greeting.token:
        return [f"  token      {greeting.token}", "             shown only once: the server keeps its hash"]
    where = greeting.state_dir_option
    return [
        f"  token      stored in {greeting.state_dir}: `codex-server token list{where}` shows the names,",
        f"             `codex-server token create NAME{where}` makes another",
    ]
