"""The composition root: ``create_app(settings)`` builds everything that the server is made of, and closes it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from codex_server.access.idempotency import IdempotencyStore
from codex_server.access.ratelimit import RateLimit
from codex_server.access.tokens import FixedToken, TokenStore, Verifier
from codex_server.api.application import build_api
from codex_server.api.services import Services
from codex_server.execution.executor import Executor
from codex_server.languages import Languages, load_languages
from codex_server.nodes.local import LocalNode
from codex_server.nodes.node import ExecutionNode
from codex_server.observe.metrics import Metrics
from codex_server.packages.package_set import in_use
from codex_server.sandboxes.base import Backend
from codex_server.sandboxes.factory import open_backend
from codex_server.service.artifacts import ArtifactBounds, Artifacts
from codex_server.service.checkpoints import Checkpoints
from codex_server.service.cursors import Cursors
from codex_server.service.executions import Executions
from codex_server.service.history import History
from codex_server.service.kept_files import KeptFiles
from codex_server.service.outcomes import Outcomes
from codex_server.service.quota import Quota
from codex_server.service.session_records import SessionRecords
from codex_server.service.session_room import SessionRoom, session_bounds
from codex_server.service.sessions import Sessions
from codex_server.service.storage_quota import KeepingQuotas
from codex_server.service.uploads import Uploads
from codex_server.service.usage import Usage
from codex_server.service.workspaces import Workspaces
from codex_server.settings import Settings
from codex_server.settings.workspace_file import with_stored_workspaces
from codex_server.store.base import Store
from codex_server.store.sqlite import SqliteStore

_log = logging.getLogger("codex_server.app")


def create_app(settings: Settings, *, backend: Backend | None = None, languages: Languages | None = None) -> FastAPI:
    """The server as an ASGI application; nothing is started before its lifespan is.

    The lifespan raises a ``StartupError`` when the server cannot keep its promises on this host. ``backend`` and
    ``languages`` stand in place of those that the settings name.
    """
    settings, metrics = with_stored_workspaces(settings), Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        verifier = _verifier(settings)
        known = languages if languages is not None else await asyncio.to_thread(_load_languages, settings)
        known = known.with_own_pools(settings.pool_sizes)
        opened = backend or open_backend(settings, known)
        async with _held(known), opened as chosen, AsyncExitStack() as closing:
            if isinstance(verifier, TokenStore):
                closing.callback(verifier.close)
            known = await chosen.survey(known)
            metrics.backend = chosen.name
            executor = Executor(chosen, known, settings, metrics=metrics)
            app.state.backend, app.state.executor = chosen, executor
            node = LocalNode(executor, chosen, known)
            services = await _open_services(settings, known, node, verifier=verifier, metrics=metrics, closing=closing)
            closing.push_async_callback(executor.close)
            closing.push_async_callback(services.workspaces.close)
            await executor.start()
            metrics.watch(executor.stats)
            app.state.services = services
            yield
            await _wind_up(app)

    return build_api(settings, metrics, lifespan)


async def _open_services(
    settings: Settings,
    languages: Languages,
    node: ExecutionNode,
    *,
    verifier: Verifier | None,
    metrics: Metrics,
    closing: AsyncExitStack,
) -> Services:
    """What the routes work with; ``closing`` closes it, the last that was opened first."""
    store = SqliteStore(settings.state_dir)
    closing.push_async_callback(store.close)
    kept_files = open_kept_files(settings, store)
    closing.push_async_callback(kept_files.close)
    await kept_files.open_if_used()
    artifacts = open_artifacts(settings, kept_files, store)
    executions = open_executions(settings, node, store, artifacts, languages)
    closing.push_async_callback(executions.close)
    sessions = open_sessions(settings, node, store, metrics)
    closing.push_async_callback(sessions.close)
    return Services(
        settings=settings,
        languages=languages,
        node=node,
        executions=executions,
        artifacts=artifacts,
        uploads=Uploads(kept_files, Cursors(store, "files"), settings.max_upload, settings.receive_seconds),
        sessions=sessions,
        workspaces=Workspaces(node, settings),
        checkpoints=open_checkpoints(settings, kept_files, store),
        verifier=verifier,
        rate_limit=RateLimit(settings.rate_limit),
        idempotency=IdempotencyStore(store),
        metrics=metrics,
    )


def open_kept_files(settings: Settings, store: Store) -> KeptFiles:
    """The files that are kept for a while, in the state folder."""
    quotas = KeepingQuotas(settings.max_artifacts_caller, settings.max_artifacts, settings.artifact_seconds)
    return KeptFiles(settings.state_dir / "artifacts", store, quotas)


def open_artifacts(settings: Settings, files: KeptFiles, store: Store) -> Artifacts:
    """What keeps the files of outcomes among ``files``."""
    bounds = ArtifactBounds(settings.max_artifact, settings.max_artifacts_execution)
    return Artifacts(files, store, bounds, (settings.public_url or "").rstrip("/"))


def open_executions(
    settings: Settings, node: ExecutionNode, store: Store, artifacts: Artifacts, languages: Languages
) -> Executions:
    """What follows executions, and keeps them in ``store`` as ``settings`` say."""
    history = History(store, days=settings.history_days, entries=settings.history_entries)
    outcomes = Outcomes(store, seconds=settings.outcome_seconds, max_bytes=settings.max_outcomes)
    usage = Usage(store, days=settings.history_days)
    quota = Quota(usage, executions=settings.quota_executions, cpu_seconds=settings.quota_cpu_seconds)
    return Executions(
        node,
        history,
        outcomes,
        artifacts,
        languages,
        usage=usage,
        quota=quota,
        cursors=Cursors(store, "executions"),
        max_chars=settings.max_response,
        max_inline=settings.max_inline_file,
        keep_code=settings.history_code,
    )


def open_sessions(settings: Settings, node: ExecutionNode, store: Store, metrics: Metrics) -> Sessions:
    """The sessions of ``node``, bounded as ``settings`` say; ``store`` remembers how they ended."""
    room, cursors = SessionRoom(session_bounds(settings)), Cursors(store, "sessions")
    return Sessions(node, SessionRecords(store), room, cursors, metrics=metrics)


def open_checkpoints(settings: Settings, files: KeptFiles, store: Store) -> Checkpoints:
    """What keeps the files of sessions among ``files``."""
    cursors = Cursors(store, "checkpoints")
    return Checkpoints(files, cursors, seconds=settings.checkpoint_seconds, max_bytes=settings.max_workspace)


def begin_drain(app: FastAPI) -> asyncio.Task[None]:
    """Refuse new executions from now on, and let the running ones finish.

    Call it on SIGTERM, before the server stops listening: ``/readyz`` then has a balancer look elsewhere, and
    callers get a 503 instead of a refused connection. The task ends when nothing runs any more, at the latest after
    ``drain_seconds``; stop listening then. Further calls return the same task.
    """
    state = app.state
    if not hasattr(state, "draining"):
        executor: Executor = state.executor
        seconds = state.services.settings.drain_seconds
        _log.info("draining", extra={"running": executor.stats().running})
        state.draining = asyncio.ensure_future(_drain(executor, state.services.sessions, seconds))
    task: asyncio.Task[None] = state.draining
    return task


async def _drain(executor: Executor, sessions: Sessions, seconds: float) -> None:
    """A call that waits at a shell holds up nothing: like one that waits for an execution it ends with the drain."""
    try:
        await executor.drain(seconds)
    finally:
        sessions.end_waits()


async def _wind_up(app: FastAPI) -> None:
    """Wait for the drain; whoever cancelled it is in a hurry, and what still runs is cancelled next."""
    drain = begin_drain(app)
    await app.state.services.workspaces.close()
    await asyncio.wait({drain})
    if not drain.cancelled():
        drain.result()


def _verifier(settings: Settings) -> Verifier | None:
    if settings.allow_no_auth:
        return None
    if settings.api_token is not None:
        return FixedToken(settings.api_token.get_secret_value())
    store = TokenStore(settings.state_dir)
    if not store.list():
        _log.warning("there is no token yet, so nobody can call; make one: codex-server token create")
    return store


def _load_languages(settings: Settings) -> Languages:
    return load_languages(settings.runners_dir, settings.packages_root, settings.pool_sizes)


@asynccontextmanager
async def _held(languages: Languages) -> AsyncIterator[None]:
    """Keep the data packages from being removed by an installation of newer ones."""
    with in_use(language.packages.folder for language in languages if language.packages):
        yield
