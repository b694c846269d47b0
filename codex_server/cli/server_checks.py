"""The checks of ``codex-server doctor`` for the state folder and the address.

INVARIANT: a check writes nothing; another account than the server's may run it.
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

_RESPONSE_SECONDS = 3.0
_RESPONSE_BYTES = 64 * 1024


def examine_state_folder(settings: Settings) -> Finding:
    """Check that tokens can be read and written; bearable where the server only reads, or does not use the folder."""
    folder = settings.state_dir.absolute()
    stored = TokenSource.of(settings) is TokenSource.STORE
    try:
        tokens = TokenStore(folder).list() if stored else []
    except StartupError as error:
        return Finding("state folder", str(folder), "the server does not start", error.detail)
    if _can_be_written(folder):
        return Finding("state folder", str(folder) if folder.is_dir() else f"{folder}, made at the first start")
    bearable = settings.backend != "docker" and not (stored and not tokens)
    lost = (
        "no token can be made or revoked" if bearable else "the server does not start: it cannot store anything there"
    )
    remedy = "give this account the right to write there, or name another folder with CODEX_STATE_DIR"
    return Finding("state folder", f"{folder} cannot be written", lost, remedy, bearable=bearable)


def examine_address(settings: Settings) -> Finding:
    """Check that the server can listen on its address, or does so already."""
    shown = f"{settings.host} port {settings.port}"
    try:
        bind_listener(settings.host, settings.port).close()
    except StartupError as error:
        if version := _server_at(base_url(settings.host, settings.port)):
            return Finding("address", f"{shown}: Codex Server {version} is already running there")
        return Finding("address", f"{shown} cannot be used", "the server does not start there", error.detail)
    return Finding("address", f"{shown} is free" if settings.port else f"{settings.host}, a free port")


def _server_at(url: str) -> str | None:
    """Return the version of the Codex Server at ``url``, or None when there is none."""
    try:
        with build_opener(ProxyHandler({})).open(f"{url}/health", timeout=_RESPONSE_SECONDS) as response:
            health = json.loads(response.read(_RESPONSE_BYTES))
    except (OSError, HTTPException, ValueError):
        return None
    return str(health["version"]) if isinstance(health, dict) and {"version", "isolation"} <= health.keys() else None


def _can_be_written(folder: Path) -> bool:
    """Return whether files could be made in it, after the missing folders above have been created."""
    nearest = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
