"""``codex-server session``: open a session on a server, run programs in it, look at its files, close it."""

import json
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

import typer

from codex_server.cli.flags import JsonFlag, gather_flags, settings_from_flags
from codex_server.cli.table import printable, render_table

if TYPE_CHECKING:
    from codex_server.cli.connection import Connection

UrlFlag = Annotated[str, typer.Option("--url", metavar="URL", help="The server's address")]
TokenFlag = Annotated[
    str | None, typer.Option("--token", metavar="TOKEN", envvar="CODEX_TOKEN", help="The token for it")
]
SessionArgument = Annotated[str, typer.Argument(metavar="SESSION", help="Id of a session, as `open` printed it")]
HERE = "http://127.0.0.1:8000"
_PAGE = 100


def open_(
    language: Annotated[
        list[str] | None,
        typer.Option(
            "--language", "-l", metavar="NAME", help="What may run in it; may be given many times; by default all"
        ),
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option("--ttl", metavar="SECONDS", help="How long it lives while nobody uses it; by default 900"),
    ] = None,
    workspace: Annotated[
        str | None,
        typer.Option(
            "--workspace", "-w", metavar="NAME", help="The server's folder to work in; by default one of its own"
        ),
    ] = None,
    url: UrlFlag = HERE,
    token: TokenFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Open a session and print its id."""
    wanted = {"languages": language, "ttl_seconds": ttl, "workspace": workspace}
    sent = {name: value for name, value in wanted.items() if value is not None}
    opened = _connect(url, token).call("POST", "/sessions", sent)
    typer.echo(json.dumps(opened, indent=2) if as_json else opened["session_id"])


def list_sessions(url: UrlFlag = HERE, token: TokenFlag = None, as_json: JsonFlag = False) -> None:
    """List your open sessions, the newest first."""
    found = _pages(_connect(url, token), "/sessions", "sessions")
    if as_json:
        typer.echo(json.dumps({"sessions": found}, indent=2))
        return
    if not found:
        typer.echo("no session of yours is open there")
        return
    rows = [(each["session_id"], _started(each), each["created_at"], each["expires_at"]) for each in found]
    typer.echo(render_table(("id", "started", "opened", "expires"), [list(map(printable, row)) for row in rows]))


def run(
    session: SessionArgument,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE|-", help="The program's file; - reads it from stdin")
    ] = None,
    args: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="Arguments of the program")] = None,
    code: Annotated[str | None, typer.Option("--code", "-c", metavar="CODE", help="The program itself")] = None,
    language: Annotated[
        str | None,
        typer.Option("--language", "-l", metavar="NAME", help="By default found from the file's name or its #! line"),
    ] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", "-t", metavar="SECONDS", help="Wall time limit")] = None,
    url: UrlFlag = HERE,
    token: TokenFlag = None,
) -> None:
    """Run one program in a session, pass its output through at once, and print the value of its last expression.

    Variables and files of the programs before are there. Exit codes are those of `codex-server run`. Arguments of the
    program that begin with - stand behind a --.
    """
    from codex_server.cli.program import EXIT_BROKEN_PIPE, EXIT_NOT_RUN
    from codex_server.cli.run import Passthrough, read_program, refusals_exit_with
    from codex_server.cli.runners import load
    from codex_server.cli.server import Server

    output = Passthrough()
    words = [*([file] if file is not None else []), *(args or [])]
    languages = cache(partial(load, settings_from_flags(gather_flags(None))))
    with refusals_exit_with(EXIT_NOT_RUN):
        ended = Server(url, token, session).run(read_program(code, words, language, timeout, languages), output)
    if output.reader_left:
        raise typer.Exit(EXIT_BROKEN_PIPE)
    if ended.result is not None:
        typer.echo(ended.result)
    for line in (*([ended.reason] if ended.reason else []), *ended.files):
        typer.echo(f"codex-server: {line}", err=True)
    raise typer.Exit(ended.exit_code)


def files(session: SessionArgument, url: UrlFlag = HERE, token: TokenFlag = None, as_json: JsonFlag = False) -> None:
    """List the files of a session."""
    found = _pages(_connect(url, token), f"{_address(session)}/files", "entries")
    if as_json:
        typer.echo(json.dumps({"entries": found}, indent=2))
        return
    rows = [(_size(each), _day(each["modified"]), _path(each)) for each in found]
    typer.echo(render_table(("bytes", "modified (utc)", "path"), [list(map(printable, row)) for row in rows]))


def close(session: SessionArgument, url: UrlFlag = HERE, token: TokenFlag = None) -> None:
    """End a session with all that runs in it; its variables and files are gone."""
    _connect(url, token).call("DELETE", _address(session))


def _connect(url: str, token: str | None) -> "Connection":
    from codex_server.cli.connection import Connection

    return Connection(url, token)


def _address(session: str) -> str:
    return f"/sessions/{quote(session, safe='')}"


def _pages(connection: "Connection", path: str, name: str) -> list[dict[str, Any]]:
    """All that a list of the server's has under ``name``, page by page."""
    from codex_server.cli.connection import NOT_OURS, ServerProblem

    found: list[dict[str, Any]] = []
    query: dict[str, object] | None = {"limit": _PAGE}
    while query:
        match connection.call("GET", f"{path}?{urlencode(query)}"):
            case {"next": following, **rest} if isinstance(entries := rest.get(name), list):
                found += entries
                query = None if following is None else {"limit": _PAGE, "cursor": following}
            case _:
                raise ServerProblem(NOT_OURS)
    return found


def _started(session: dict[str, Any]) -> str:
    return ",".join(name for name, state in session["languages"].items() if state["started"])


def _size(entry: dict[str, Any]) -> str:
    return str(entry["size"]) if entry["type"] == "file" else ""


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _path(entry: dict[str, Any]) -> str:
    return f"{entry['path']}/" if entry["type"] == "folder" else str(entry["path"])
