"""Runs an execution: find the language, admit, check out a sandbox, run, return the outcome."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Protocol

from codex_server.errors import InvalidRequest, SandboxUnavailable
from codex_server.execution.admission import Admission
from codex_server.execution.pool import Pool
from codex_server.execution.run import Finish, Run, stopping
from codex_server.execution.session import EndCause, Session, Turn
from codex_server.languages import Languages
from codex_server.model import Ending, Execution, ExecutorStats, Outcome, Status
from codex_server.sandboxes.base import Backend
from codex_server.sandboxes.session import SessionPlan
from codex_server.settings import Settings

_log = logging.getLogger(__name__)

_MOST_READ = 32_000
"""Bytes of an input module that are searched for imports."""
_TRIES = 3
"""Sandboxes that are tried for one execution while its code has not begun."""
_RETRY_SECONDS = 10.0
"""After this time no other sandbox is tried: a hanging engine fails after 20 s, and the caller is waiting."""
_CANCEL_SECONDS = 10.0
"""How long cancelled executions may take to end."""


class ExecutionObserver(Protocol):
    """Receives the figures of each execution."""

    def executed(
        self, language: str, status: Status, queue_seconds: float, wall_seconds: float, cpu_seconds: float | None
    ) -> None:
        """Record an execution that began and has ended; ``language`` is a runner's name."""


class Executor:
    """Runs executions on ``backend``, which the caller starts before the executor and closes after it."""

    def __init__(
        self, backend: Backend, languages: Languages, settings: Settings, *, metrics: ExecutionObserver | None = None
    ) -> None:
        self._backend = backend
        self._languages = languages
        self._settings = settings
        self._metrics = metrics
        self._admission = Admission(settings.max_concurrency, settings.queue_length, settings.queue_seconds)
        self._pools: dict[str, Pool] = {}
        self._runs: set[Run] = set()
        self._sessions: set[Session] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    async def execute(self, execution: Execution) -> Outcome:
        """Submit and wait for the outcome. Cancelling the caller's task kills the sandbox."""
        return await self.submit(execution).attended_outcome()

    def submit(self, execution: Execution, finish: Finish | None = None, turn: Turn | None = None) -> Run:
        """Start ``execution``; it belongs to this executor until it has ended. ``finish``: see ``Run``.

        With ``turn`` it is the next cell of a session; ``Run.admitted`` then raises ``SessionBusy`` or ``SessionEnded``
        too, and waits for the turn as long as the execution itself may take.

        Raises ``UnknownLanguage``, ``LanguageUnavailable``, ``InvalidRequest`` (no sandbox here can have its streams)
        or ``Draining``. ``Run.admitted`` and ``Run.outcome`` raise ``Busy``, ``Draining`` or ``SandboxUnavailable``
        when the program has not begun. ``Run.outcome`` also raises ``SandboxFault`` when its sandbox was lost later (it
        is not run again).
        """
        if self._draining:
            raise stopping()
        if refusal := self._backend.refusal(execution.stdio):
            raise InvalidRequest(refusal, "/terminal")
        run = Run(execution, self._languages.find(execution.language), self._settings.max_flood, finish)
        self._runs.add(run)
        self._idle.clear()
        run.start(self._perform(run, turn))
        run.on_end(self._forget)
        return run

    async def open_session(self, plan: SessionPlan) -> Session:
        """Open a session; it ends with this executor at the latest. Raises ``Draining`` or ``SandboxUnavailable``."""
        if self._draining:
            raise stopping()
        session = Session(plan, await self._backend.open_session(plan))
        self._sessions.add(session)
        session.on_end(self._sessions.discard)
        for name in plan.begin:
            session.begin(self._languages.find(name))
        return session

    async def _perform(self, run: Run, turn: Turn | None) -> Outcome:
        async with AsyncExitStack() as held:
            # INVARIANT: the place is held until the files of the outcome are kept: what is in memory of executions
            # that have ended is bounded by the places.
            ending = await self._ending(run, turn, held)
            return await run.finished(self._counted(run, ending))

    def _forget(self, run: Run) -> None:
        """Called at the end of its task, also where that was cancelled before it took its first step."""
        self._runs.remove(run)
        if not self._runs:
            self._idle.set()

    async def _ending(self, run: Run, turn: Turn | None, held: AsyncExitStack) -> Ending:
        """Return the ending of ``run``, which has its place as long as ``held`` is open."""
        deadline = run.deadline()
        try:
            async with deadline:
                return await (self._run_in_session(run, turn, held) if turn else self._run_alone(run, held))
        except TimeoutError:
            if not deadline.expired():
                raise
            return run.ending_of_the_cancelled()
        except asyncio.CancelledError:
            if run.began is not None:
                self._counted(run, run.ending_of_the_cancelled())
            raise

    async def _run_in_session(self, run: Run, turn: Turn, held: AsyncExitStack) -> Ending:
        """Run a cell: its turn comes first, so that whoever waits for it holds no place."""
        seconds = run.execution.limits.wall_seconds if turn.wait else 0
        async with turn.session.turn(seconds=seconds) as sandbox:
            await held.enter_async_context(self._admission.place())
            await sandbox.prepare(run.language)
            run.begin()
            try:
                return await sandbox.run(run.execution, run.language, run.write_output, run.stdin)
            except asyncio.CancelledError:
                run.cancelled_ending = sandbox.cancelled
                raise

    async def _run_alone(self, run: Run, held: AsyncExitStack) -> Ending:
        """Run in a sandbox of its own. One that is lost before the code begins is replaced without notice."""
        await held.enter_async_context(self._admission.place())
        retry_until = asyncio.get_running_loop().time() + _RETRY_SECONDS
        for _ in range(_TRIES - 1):
            try:
                return await self._try(run)
            except SandboxUnavailable as error:
                if asyncio.get_running_loop().time() > retry_until:
                    raise
                run.take_back()
                _log.warning("another sandbox for %s: %s", run.id, error)
        return await self._try(run)

    async def _try(self, run: Run) -> Ending:
        pool = self._pools[self._backend.pool_key(run.language, run.execution.code, _texts(run.execution))]
        async with pool.checkout(run.language, run.execution.stdio) as sandbox:
            run.begin()
            return await sandbox.run(run.execution, run.language, run.write_output, run.stdin)

    def _counted(self, run: Run, ending: Ending) -> Outcome:
        outcome = run.outcome_with(ending)
        if self._metrics:
            self._metrics.executed(
                run.language.name, outcome.status, outcome.queue_seconds, ending.wall_seconds, ending.cpu_seconds
            )
        return outcome

    async def start(self) -> None:
        """Create and start one pool for each kind of sandbox that an available language needs."""
        for language in self._languages:
            for key in self._backend.pool_keys(language) if language.available else ():
                if key not in self._pools:
                    size = self._settings.pool_sizes.get(key, 1)
                    self._pools[key] = Pool(key, size, self._backend, language)
                    self._pools[key].start()

    async def drain(self, seconds: float) -> None:
        """Reject new executions, wait ``seconds`` for running and queued ones to end, then cancel the rest.

        A cancelled running execution has the outcome ``cancelled`` with its output so far; a queued one raises
        ``Draining``.
        """
        self._draining = True
        if not await self._wait_until_idle(seconds):
            await self._cancel_all()

    async def close(self) -> None:
        """Cancel every execution and destroy every sandbox."""
        self._draining = True
        await self._cancel_all()
        ends = [each.close("the server was stopped", EndCause.STOPPED) for each in tuple(self._sessions)]
        await asyncio.gather(*ends)
        pools, self._pools = list(self._pools.values()), {}
        await asyncio.gather(*(pool.close() for pool in pools))

    async def _cancel_all(self) -> None:
        for run in self._runs:
            run.cancel(stopping())
        if not await self._wait_until_idle(_CANCEL_SECONDS):
            _log.error("%d executions did not end within %g s of being cancelled", len(self._runs), _CANCEL_SECONDS)

    async def _wait_until_idle(self, seconds: float) -> bool:
        """Wait until nothing runs or waits, at most ``seconds``; return whether that happened."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    @property
    def draining(self) -> bool:
        """Whether new executions are rejected because the server is stopping."""
        return self._draining

    def stats(self) -> ExecutorStats:
        """Return how many executions run and wait, and how many sandboxes are armed."""
        armed = {key: pool.armed for key, pool in self._pools.items()}
        return ExecutorStats(self._admission.running, self._admission.queued, armed)

    def not_ready(self) -> list[str]:
        """Return the reasons why this cannot serve, a sentence each; empty when it is ready."""
        stopping = "the server is stopping" if self._draining else None
        reasons = [stopping, self._backend.problem(), *(pool.problem for pool in self._pools.values())]
        return [reason for reason in reasons if reason]


def _texts(execution: Execution) -> Iterator[str]:
    """Yield the texts that accompany a program: names of variables and files, and the beginning of modules."""
    yield from execution.env
    for file in execution.files:
        yield file.path
        if file.path.endswith(".py"):
            yield file.content[:_MOST_READ].decode(errors="replace")
