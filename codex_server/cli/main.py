"""The ``codex-server`` command: its subcommands, and the output of an error."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from codex_server import __version__
from codex_server.cli import (
    attach,
    config,
    doctor,
    images,
    languages,
    log,
    openapi,
    run,
    runners,
    serve,
    session,
    token,
    usage,
    workspace,
)
from codex_server.cli.command import show_error
from codex_server.errors import CodexError, SettingsInvalid

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="codex-server",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _examples(*lines: str) -> str:
    """Return an epilog whose lines the help page keeps."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"codex-server {__version__}")
        raise typer.Exit


@app.callback(
    epilog=_examples("codex-server serve", "codex-server run -c 'print(6 * 7)'", "codex-server COMMAND --help")
)
def describe(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit")
    ] = False,
) -> None:
    """Run the code that a model or a person sends, safely and at once."""


def _register(
    group: typer.Typer, command: Callable[..., None], *examples: str, short: str, name: str | None = None
) -> None:
    """Add a command. ``short`` is its line in the list: under 50 characters, to fit a terminal of 80 columns."""
    settings = {"allow_interspersed_args": False} if command is run.run else None
    group.command(name, short_help=short, epilog=_examples(*examples), context_settings=settings)(command)


_register(
    app,
    serve.serve,
    "codex-server serve",
    "codex-server serve --host 0.0.0.0 --port 9000 --min-isolation full",
    "codex-server serve --set max_timeout=60 --set pool_sizes=python=8,python-data=2,javascript=2",
    short="Start the server.",
)
_register(
    app,
    run.run,
    "codex-server run hello.py",
    "codex-server run -l javascript -c 'console.log(6 * 7)'",
    "echo 'one two' | codex-server run -c 'print(input().split())'",
    "codex-server run --timeout 5 tool.sh first --second",
    "codex-server run -c 'import sys; print(sys.argv)' -- --for-the-program",
    "CODEX_TOKEN=codex_... codex-server run --url https://code.example.org hello.py",
    short="Run one file in a sandbox, here or on a server.",
)
_register(
    app,
    attach.attach,
    "codex-server attach $SESSION",
    "codex-server attach $SESSION build --url https://code.example.org",
    short="Sit at a shell of a session.",
)
_register(
    app,
    doctor.doctor,
    "codex-server doctor",
    "codex-server doctor --json | python3 -m json.tool",
    short="Show what this machine offers and what it lacks.",
)
_register(
    app,
    languages.languages,
    "codex-server languages",
    "codex-server languages --json",
    short="List the languages that can run here.",
)
_register(
    app,
    log.log,
    "codex-server log --limit 100",
    "codex-server log --follow --caller chatgpt",
    "codex-server log --json --limit 1000 | jq -r .status | sort | uniq -c",
    short="Show the history of executions.",
)
_register(
    app,
    usage.usage,
    "codex-server usage",
    "codex-server usage --days 30 --json",
    short="Show what each caller used, by day.",
)
_register(
    app,
    config.config,
    "codex-server config",
    "CODEX_MAX_TIMEOUT=60 codex-server config",
    "codex-server config --set port=9000 --json",
    short="Print every effective setting and its source.",
)
_register(
    app,
    openapi.openapi,
    "codex-server openapi > openapi.yaml",
    "codex-server openapi --check openapi.yaml",
    short="Print the API's OpenAPI document.",
)

_tokens = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
_register(
    _tokens,
    token.create,
    "codex-server token create chatgpt",
    "codex-server token create ci --expires-in-days 30",
    short="Make a token and print it once.",
)
_register(
    _tokens, token.list_tokens, "codex-server token list", name="list", short="List the tokens' names and states."
)
_register(_tokens, token.revoke, "codex-server token revoke chatgpt", short="Revoke a token with immediate effect.")
app.add_typer(
    _tokens,
    name="token",
    short_help="Make, list and revoke bearer tokens.",
    help="Make, list and revoke the bearer tokens that callers present.",
    epilog=_examples("codex-server token create chatgpt", "codex-server token list"),
)

_sessions = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
_register(
    _sessions,
    session.open_,
    "codex-server session open",
    "codex-server session open --language python --ttl 3600 --url https://code.example.org",
    name="open",
    short="Open a session and print its id.",
)
_register(
    _sessions,
    session.list_sessions,
    "codex-server session list",
    "codex-server session list --json",
    name="list",
    short="List your open sessions.",
)
_register(
    _sessions,
    session.run,
    "codex-server session run $SESSION -c 'x = 20'",
    "codex-server session run $SESSION -c '2 * x + 2'",
    "codex-server session run $SESSION --timeout 5 tool.sh -- first --second",
    short="Run one program in a session.",
)
_register(
    _sessions,
    attach.attach,
    "codex-server session attach $SESSION",
    "codex-server session attach $SESSION build",
    short="Sit at a shell of a session.",
)
_register(_sessions, session.files, "codex-server session files $SESSION", short="List the files of a session.")
_register(
    _sessions, session.close, "codex-server session close $SESSION", short="End a session with all that runs in it."
)
app.add_typer(
    _sessions,
    name="session",
    short_help="Open, use and close sessions of a server.",
    help="Open, use and close sessions of a server: programs in one find the variables and files of those before.",
    epilog=_examples("SESSION=$(codex-server session open)", "codex-server session run $SESSION -c 'x = 20'"),
)

_workspaces = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
_register(
    _workspaces,
    workspace.add,
    "codex-server workspace add notes ~/notes",
    "codex-server workspace add data /srv/data --read-only",
    short="Let sessions have a folder as their workspace.",
)
_register(
    _workspaces,
    workspace.list_workspaces,
    "codex-server workspace list",
    "codex-server workspace list --json",
    name="list",
    short="List the folders that sessions may work in.",
)
_register(_workspaces, workspace.remove, "codex-server workspace remove notes", short="Take a folder's name away.")
app.add_typer(
    _workspaces,
    name="workspace",
    short_help="Name the folders that sessions may work in.",
    help="Name the folders of this machine that sessions of the server may have as their workspace.",
    epilog=_examples("codex-server workspace add notes ~/notes", "codex-server workspace list"),
)

_runners = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
_register(
    _runners,
    runners.list_runners,
    "codex-server runners list",
    name="list",
    short="List the packages that programs may import.",
)
_register(
    _runners,
    runners.install,
    "codex-server runners install",
    "codex-server runners install python",
    short="Install the packages that programs may import.",
)
_register(
    _runners,
    images.build,
    "codex-server runners build",
    "codex-server runners build python --no-data",
    "codex-server runners build javascript --base node:22-slim",
    short="Build the images of the docker backend.",
)
app.add_typer(
    _runners,
    name="runners",
    short_help="Install and list packages; build images.",
    help="Install and list the packages that programs may import; build the images of the docker backend.",
    epilog=_examples("codex-server runners list", "codex-server runners install", "codex-server runners build"),
)


def main() -> None:
    """Run the command line; a ``CodexError`` is one message on stderr, without a traceback."""
    try:
        app(prog_name="codex-server")
    except CodexError as error:
        show_error(error)
        sys.exit(EXIT_USAGE if isinstance(error, SettingsInvalid) else EXIT_ERROR)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
