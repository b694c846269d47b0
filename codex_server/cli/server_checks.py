"""What ``codex-server doctor`` looks at besides sandboxes: whether the server has its folder and its address.

INVARIANT: looking writes nothing; a diagnosis may be made by another account than the server's.
"""

import json
import os
from http.client import HTTPException
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from codex_server.access.tokens import TokenStore
from codex_server.cli.greeting import TokenSource
from codex_server.cli.host_checks import Finding
from codex_server.cli.listener import base_url, bind_listener
from codex_server.errors import StartupError
from codex_server.settings import Settings

_ANSWER_SECONDS = 3.0
_ANSWER_BYTES = 64 * 1024


def examine_state_folder(settings: Settings) -> Finding:
    """Whether tokens can be read and written; bearable where the server only reads, or has no use for the folder."""
    folder = settings.state_dir.absolute()
    stored = TokenSource.of(settings) is TokenSource.STORE
    try:
        tokens = TokenStore(folder).list() if stored else []
    except StartupError as error:
        return Finding("state folder", str(folder), "the server does not start", error.detail)
    if _can_be_written(folder):
        return Finding("state folder", str(folder) if folder.is_dir() else f"{folder}, made at the first start")
    bearable = settings.backend != "docker" and not (stored and not tokens)
    lost = "no token can be made or revoked" if bearable else "the server does not start: it cannot keep anything there"
    cure = "give this account the right to write there, or name another folder with CODEX_STATE_DIR"
    return Finding("state folder", f"{folder} cannot be written", lost, cure, bearable=bearable)


def examine_address(settings: Settings) -> Finding:
    """Whether the server can listen where it is to, or does so already."""
    shown = f"{settings.host} port {settings.port}"
    try:
        bind_listener(settings.host, settings.port).close()
    except StartupError as error:
        if version := _server_at(base_url(settings.host, settings.port)):
            return Finding("address", f"{shown}: Codex Server {version} answers there already")
        return Finding("address", f"{shown} cannot be had", "the server does not start there", error.detail)
    return Finding("address", f"{shown} is free" if settings.port else f"{settings.host}, a free port")


def _server_at(url: str) -> str | None:
    """The version of the Codex Server that answers at ``url``; None where none does."""
    try:
        with build_opener(ProxyHandler({})).open(f"{url}/health", timeout=_ANSWER_SECONDS) as response:
            answer = json.loads(response.read(_ANSWER_BYTES))
    except (OSError, HTTPException, ValueError):
        return None
    return str(answer["version"]) if isinstance(answer, dict) and {"version", "isolation"} <= answer.keys() else None


def _can_be_written(folder: Path) -> bool:
    """Whether files can be made in it, once it and the folders above that are missing have been made."""
    nearest = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
