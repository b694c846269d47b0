"""``codex-server serve``: listens, prints the start message, and stops without losing an execution."""

import asyncio
import contextlib
import os
import resource
import socket
import sys
import time
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from codex_server.cli.command import as_called_here, command_here
from codex_server.cli.flags import MinIsolationFlag, SetFlags, StateDirFlag, gather_flags, settings_from_flags
from codex_server.errors import InstallationFailed, StartupError

_MOST_DESCRIPTORS = 2**16

if TYPE_CHECKING:
    from fastapi import FastAPI

    from codex_server.api.services import Services
    from codex_server.languages import Languages
    from codex_server.packages.package_set import PackageSet
    from codex_server.sandboxes.base import Backend
    from codex_server.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on")] = None,
    port: Annotated[int | None, typer.Option(metavar="NUMBER", help="Port to listen on; 0 takes a free one")] = None,
    token: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="The one token to accept (visible in `ps`: CODEX_API_TOKEN is better)"),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(metavar="NAME", help="Sandbox backend: auto, embedded or docker")
    ] = None,
    min_isolation: MinIsolationFlag = None,
    state_dir: StateDirFlag = None,
    no_data: Annotated[
        bool, typer.Option("--no-data", help="Without numpy, pandas and the other data packages; installs nothing")
    ] = False,
    assignments: SetFlags = None,
) -> None:
    """Start the server; the first start makes a token and prints it once, and installs the data packages.

    On SIGTERM or Ctrl-C running executions finish (up to the setting drain_seconds) while new ones get 503; a second
    signal stops at once. The exit code is 0 after a stop, 1 when the server cannot start, 2 when a setting is wrong.
    """
    from codex_server.cli.config import unknown_variables

    named: dict[str, object] = {"host": host, "port": port, "api_token": token, "backend": backend}
    named["data_packages"] = False if no_data else None
    flags = gather_flags(assignments, **named, min_isolation=min_isolation, state_dir=state_dir)
    settings = settings_from_flags(flags)
    for warning in unknown_variables(os.environ):
        print(f"codex-server: {warning}", file=sys.stderr)
    run_server(settings)


def run_server(settings: "Settings") -> None:
    """Serve until a signal; return once all of the server has stopped."""
    import uvloop

    from codex_server.cli.listener import bind_listener
    from codex_server.cli.runners import load, missing_sets
    from codex_server.cli.shutdown import STOPPED, show
    from codex_server.cli.threads import started_threads
    from codex_server.observe.logging import configure_logging

    begun = time.monotonic()
    _raise_descriptor_limit()
    languages = load(settings)
    if (missing := missing_sets(languages)) and _runs_on_this_machine(settings, languages):
        install_if_possible(missing)
        begun, languages = time.monotonic(), load(settings)
    with bind_listener(settings.host, settings.port) as listener:
        configure_logging(level=settings.log_level, shape=settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.get_loop().set_default_executor(started_threads())
            runner.run(_serve(settings, languages, listener, begun))
    show(STOPPED)


def _raise_descriptor_limit() -> None:
    """Raise the descriptor limit as far as the host allows: a shell's usual 1024 are too few for many clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _runs_on_this_machine(settings: "Settings", languages: "Languages") -> bool:
    """Return whether programs will use this machine's interpreters, and so the packages installed here."""
    if settings.backend != "auto":
        return settings.backend == "embedded"
    from codex_server.sandboxes.embedded.backend import EmbeddedBackend

    async def reach() -> None:
        async with EmbeddedBackend(settings, languages):
            pass

    try:
        asyncio.run(reach())
    except StartupError:
        return False
    return True


async def _serve(settings: "Settings", languages: "Languages", listener: socket.socket, begun: float) -> None:
    from codex_server.app import create_app
    from codex_server.cli.graceful import GracefulServer

    app = create_app(settings, languages=languages)
    server = GracefulServer(
        app,
        lambda: _begin_stop(app),
        receive_seconds=settings.receive_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        trusted_proxies=settings.trusted_networks,
    )
    with server.signals_handled(), _first_token(settings) as first:
        async with app.router.lifespan_context(app) as state:
            await server.serve_until_signal(
                listener, state or {}, on_ready=lambda: _greet(app, listener, begun, first.take())
            )


def _begin_stop(app: "FastAPI") -> asyncio.Task[None]:
    """Drain, and print what that waits for."""
    from codex_server.app import begin_drain
    from codex_server.cli.shutdown import describe_stop, show

    drain = begin_drain(app)
    services: Services = app.state.services
    show(describe_stop(app.state.executor.stats(), services.settings.drain_seconds))
    return drain


def install_if_possible(missing: "Iterable[PackageSet]") -> None:
    """Install what is missing; a failure is printed, and the server starts without it."""
    from codex_server.cli.runners import install_visibly

    for wanted in missing:
        try:
            install_visibly(wanted)
        except InstallationFailed as failure:
            message = (
                f"codex-server: the packages of {wanted.title} are not installed: {failure.detail}\n"
                "codex-server: the server starts without them, and programs that import them fail. Later: "
                "`codex-server runners install`, then start the server again; `serve --no-data` does not try."
            )
            print(as_called_here(message), file=sys.stderr, flush=True)


class FirstToken:
    """The token that this start made, until it is shown; None when one existed already."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def take(self) -> str | None:
        """Return the token, only once."""
        token, self._token = self._token, None
        return token


@contextlib.contextmanager
def _first_token(settings: "Settings") -> Generator[FirstToken]:
    """Make the first token; print it even when the start fails, because it cannot be shown later."""
    from codex_server.access.tokens import TokenStore
    from codex_server.cli.greeting import TokenSource

    stored = TokenSource.of(settings) is TokenSource.STORE
    first = FirstToken(TokenStore(settings.state_dir).ensure_first_token() if stored else None)
    try:
        yield first
    finally:
        if token := first.take():
            print(f"The first token was made, and is shown only once: {token}", flush=True)


def _greet(app: "FastAPI", listener: socket.socket, begun: float, token: str | None) -> None:
    from codex_server.cli.greeting import (
        Greeting,
        TokenSource,
        describe_backend,
        describe_packages,
        render_greeting,
        state_dir_option,
    )
    from codex_server.cli.listener import base_url
    from codex_server.settings import default_state_dir

    services: Services = app.state.services
    backend: Backend = app.state.backend
    settings = services.settings
    greeting = Greeting(
        url=base_url(settings.host, listener.getsockname()[1]),
        public_url=settings.public_url,
        backend=describe_backend(backend),
        isolation=backend.isolation,
        packages=describe_packages(services.languages, switched_on=settings.data_packages),
        token=token,
        token_source=TokenSource.of(settings),
        state_dir=settings.state_dir,
        state_dir_option=state_dir_option(settings.state_dir, default_state_dir()),
        seconds=time.monotonic() - begun,
        command=command_here(),
    )
    print(render_greeting(greeting), flush=True)
