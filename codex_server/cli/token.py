"""``codex-server token``: make, list and revoke the bearer tokens of the server that uses the same state folder."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from codex_server.access.tokens import ALL_SCOPES, Scope, Token, TokenStore
from codex_server.cli.command import as_called_here
from codex_server.cli.flags import JsonFlag, StateDirFlag, gather_flags, settings_from_flags
from codex_server.cli.table import render_table


def create(
    name: Annotated[str, typer.Argument(help="What the token is for, for example chatgpt", metavar="NAME")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE", help="What it allows: execute or metrics; may be given many times; by default everything"
        ),
    ] = None,
    expires_in_days: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0.001, max=36500, help="When it ends by itself; by default never"),
    ] = None,
    state_dir: StateDirFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a token and print it: this once, for only its hash is kept. A running server accepts it at once."""
    expires_in = timedelta(days=expires_in_days) if expires_in_days is not None else None
    scopes = _parse_scopes(scope) if scope else ALL_SCOPES
    secret, record = TokenStore(_folder(state_dir)).create(name, scopes, expires_in)
    typer.echo(json.dumps({**describe_token(record), "token": secret}, indent=2) if as_json else secret)
    if os.environ.get("CODEX_API_TOKEN"):
        typer.echo(
            "codex-server: CODEX_API_TOKEN is set here; a server that has it too accepts that one alone", err=True
        )


def list_tokens(state_dir: StateDirFlag = None, as_json: JsonFlag = False) -> None:
    """List the tokens, the oldest first: names, scopes and dates, never a token itself."""
    folder = _folder(state_dir)
    tokens = TokenStore(folder).list()
    if as_json:
        typer.echo(json.dumps({"tokens": [describe_token(token) for token in tokens]}, indent=2))
        return
    if not tokens:
        typer.echo(as_called_here(f"no tokens in {folder}; `codex-server token create NAME` makes one"))
        return
    now = datetime.now(UTC)
    rows = [
        (token.name, token.id, token_state(token, now), ",".join(sorted(token.scopes)), _day(token.created_at))
        for token in tokens
    ]
    typer.echo(render_table(("name", "id", "state", "scopes", "made"), rows))


def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="As `codex-server token list` shows it")],
    state_dir: StateDirFlag = None,
) -> None:
    """Make a token useless from now on, in a running server too. This cannot be undone."""
    record = TokenStore(_folder(state_dir)).revoke(name)
    typer.echo(f"Revoked {record.name} ({record.id}): requests that show it get 401 from now on.")


def describe_token(token: Token) -> dict[str, Any]:
    """A token as ``--json`` shows it: no secret and no hash."""
    return {
        "id": token.id,
        "name": token.name,
        "scopes": sorted(token.scopes),
        "state": token_state(token, datetime.now(UTC)),
        "created_at": token.created_at.isoformat(),
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
        "revoked_at": token.revoked_at.isoformat() if token.revoked_at else None,
    }


def token_state(token: Token, now: datetime) -> str:
    """One of ``revoked``, ``expired``, ``valid``, ``valid until 2026-12-31``; on its last day with the time, in UTC."""
    if token.revoked_at is not None:
        return "revoked"
    if not token.valid_at(now):
        return "expired"
    if token.expires_at is None:
        return "valid"
    if token.expires_at - now < timedelta(days=1):
        return f"valid until {token.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"valid until {_day(token.expires_at)}"


def _parse_scopes(words: list[str]) -> list[Scope]:
    try:
        return [Scope(word) for word in words]
    except ValueError as error:
        raise typer.BadParameter(f"{error}; scopes are {', '.join(Scope)}", param_hint="--scope") from None


def _folder(state_dir: Path | None) -> Path:
    return settings_from_flags(gather_flags(None, state_dir=state_dir)).state_dir


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d")
