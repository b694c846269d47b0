"""The HTTP application without its services: routes, edges and document. ``codex_server.app`` puts the services in."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI

from codex_server import __version__
from codex_server.api.exception_handlers import install_exception_handlers
from codex_server.api.middleware import RequestMiddleware
from codex_server.api.openapi import TITLE, install_document
from codex_server.api.routes import (
    actions,
    artifacts,
    batch,
    checkpoints,
    execute,
    executions,
    files,
    health,
    home,
    languages,
    metrics,
    pages,
    session_files,
    sessions,
    shells,
    stream,
    workspaces,
)
from codex_server.observe.metrics import Metrics
from codex_server.settings import Settings

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def build_api(settings: Settings, metrics_: Metrics, lifespan: Lifespan | None = None) -> FastAPI:
    """The application; ``lifespan`` must set ``app.state.services`` before the first request."""
    # FastAPI's own pages load their scripts from elsewhere; `pages` serves one that works offline.
    # A path with a slash too many is a 404: a redirect would repeat the caller's Host, and tokens would follow it.
    app = FastAPI(
        title=TITLE, version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    app.state.metrics = metrics_
    app.state.problem_base = (settings.public_url or "").rstrip("/")
    app.add_middleware(RequestMiddleware, metrics=metrics_)
    install_exception_handlers(app)
    for module in (
        execute,
        stream,
        batch,
        executions,
        session_files,
        shells,
        sessions,
        workspaces,
        checkpoints,
        artifacts,
        files,
        languages,
        health,
        metrics,
        home,
        pages,
        actions,
    ):
        app.include_router(module.router)
    install_document(app, settings)
    return app
