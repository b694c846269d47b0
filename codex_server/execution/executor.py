"""The way of an execution: find its language, be admitted, check a sandbox out, run, tell the outcome."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from signal import SIGKILL
from typing import Protocol

from codex_server.errors import Draining, SandboxUnavailable
from codex_server.execution.admission import Admission
from codex_server.execution.capture import Recorder
from codex_server.execution.pool import Pool
from codex_server.languages import Language, Languages
from codex_server.model import Census, Ending, Execution, Outcome, Status, Stop, Stream
from codex_server.sandboxes.base import Backend
from codex_server.settings import Settings

_log = logging.getLogger(__name__)

_TRIES = 3
"""Sandboxes that one execution may lose before its code begins."""
_RETRY_SECONDS = 10.0
"""After which no other is tried for it: an engine that hangs says no after 20 s, and the caller is still waiting."""
_CANCEL_SECONDS = 10.0
"""How long cancelled executions may take to leave."""


class ExecutionObserver(Protocol):
    """Whoever counts executions."""

    def executed(
        self, language: str, status: Status, queue_seconds: float, wall_seconds: float, cpu_seconds: float | None
    ) -> None:
        """An execution that began has ended; ``language`` is a runner's name."""


@dataclass(slots=True, eq=False)
class _Run:
    """What is known of an execution while it is under way. ``began`` (monotonic) is None until the hand-off."""

    execution: Execution
    language: Language
    recorder: Recorder
    leash: asyncio.Timeout
    arrived: float = field(default_factory=time.monotonic)
    began: float | None = None
    started_at: datetime | None = None

    def begin(self) -> None:
        """Note the hand-off to a sandbox."""
        self.began, self.started_at = time.monotonic(), datetime.now(UTC)

    def cancelled(self) -> Ending:
        """The ending of a program that was killed because nobody waits for it any more.

        Raises ``Draining`` when it had not begun.
        """
        if self.began is None or self.started_at is None:
            raise _draining()
        return Ending(
            exit_code=None,
            signal=SIGKILL,
            started_at=self.started_at,
            wall_seconds=time.monotonic() - self.began,
            cpu_seconds=0.0,
            peak_memory_bytes=None,
            stop=Stop.CANCELLED,
        )

    def outcome(self, ending: Ending) -> Outcome:
        """What the caller is told."""
        return Outcome(
            execution_id=self.execution.id,
            ending=ending,
            stdout=self.recorder.captured(Stream.STDOUT),
            stderr=self.recorder.captured(Stream.STDERR),
            queue_seconds=(self.began or self.arrived) - self.arrived,
            limits=self.execution.limits,
        )


class Executor:
    """Runs executions on ``backend``, which the caller starts before this and closes after it."""

    def __init__(
        self, backend: Backend, languages: Languages, settings: Settings, *, metrics: ExecutionObserver | None = None
    ) -> None:
        self._backend = backend
        self._languages = languages
        self._settings = settings
        self._metrics = metrics
        self._admission = Admission(settings.max_concurrency, settings.queue_length, settings.queue_seconds)
        self._pools: dict[str, Pool] = {}
        self._runs: set[_Run] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    async def execute(self, execution: Execution) -> Outcome:
        """Run ``execution`` to its end. Cancelling the caller's task kills its sandbox.

        Raises ``UnknownLanguage``; ``Busy``, ``Draining``, ``LanguageUnavailable`` or ``SandboxUnavailable`` when
        nothing of it has begun; ``SandboxFault`` when its sandbox was lost later (it is not run again).
        """
        if self._draining:
            raise _draining()
        language = self._languages.find(execution.language)
        async with self._under_way(execution, language) as run:
            ending = await self._run(run)
        return self._told(run, ending)

    async def _run(self, run: _Run) -> Ending:
        """The ending of ``run``. A sandbox that is lost before the code begins is replaced, and nobody notices."""
        try:
            async with run.leash, self._admission.place():
                patience_ends = asyncio.get_running_loop().time() + _RETRY_SECONDS
                for _ in range(_TRIES - 1):
                    try:
                        return await self._try(run)
                    except SandboxUnavailable as error:
                        if asyncio.get_running_loop().time() > patience_ends:
                            raise
                        run.began = None
                        _log.warning("another sandbox for %s: %s", run.execution.id, error)
                return await self._try(run)
        except TimeoutError:
            if not run.leash.expired():
                raise
            return run.cancelled()
        except asyncio.CancelledError:
            if run.began is not None:
                self._told(run, run.cancelled())
            raise

    async def _try(self, run: _Run) -> Ending:
        pool = self._pools[self._backend.pool_key(run.language, run.execution.code)]
        async with pool.checkout(run.language) as sandbox:
            run.begin()
            return await sandbox.run(run.execution, run.language, run.recorder)

    def _told(self, run: _Run, ending: Ending) -> Outcome:
        outcome = run.outcome(ending)
        if self._metrics:
            self._metrics.executed(
                run.language.name, outcome.status, outcome.queue_seconds, ending.wall_seconds, ending.cpu_seconds
            )
        return outcome

    @asynccontextmanager
    async def _under_way(self, execution: Execution, language: Language) -> AsyncIterator[_Run]:
        """A run that ``drain`` and ``close`` know of; its leash is how they end it."""
        recorder = Recorder(execution.limits.output_bytes, self._settings.max_flood)
        run = _Run(execution, language, recorder, leash=asyncio.timeout(None))
        self._runs.add(run)
        self._idle.clear()
        try:
            yield run
        finally:
            self._runs.remove(run)
            if not self._runs:
                self._idle.set()

    async def start(self) -> None:
        """Begin to fill one pool for each kind of sandbox that an available language needs."""
        for language in self._languages:
            for key in self._backend.pool_keys(language) if language.available else ():
                if key not in self._pools:
                    size = self._settings.pool_sizes.get(key, 1)
                    self._pools[key] = Pool(key, size, self._backend, language)
                    self._pools[key].start()

    async def drain(self, seconds: float) -> None:
        """Refuse new executions, give those that run or wait ``seconds`` to end, then cancel what is left.

        What is cancelled while it runs has the outcome ``cancelled``, with its output so far; what still waits is
        refused with ``Draining``.
        """
        self._draining = True
        if not await self._quiet(seconds):
            await self._cancel_all()

    async def close(self) -> None:
        """End every execution and destroy every sandbox."""
        self._draining = True
        await self._cancel_all()
        pools, self._pools = list(self._pools.values()), {}
        await asyncio.gather(*(pool.close() for pool in pools))

    async def _cancel_all(self) -> None:
        now = asyncio.get_running_loop().time()
        for run in self._runs:
            if not run.leash.expired():
                run.leash.reschedule(now)
        if not await self._quiet(_CANCEL_SECONDS):
            _log.error("%d executions did not end within %g s of being cancelled", len(self._runs), _CANCEL_SECONDS)

    async def _quiet(self, seconds: float) -> bool:
        """Whether nothing runs or waits any more, at the latest after ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    @property
    def draining(self) -> bool:
        """Whether new executions are refused because the server is stopping."""
        return self._draining

    def census(self) -> Census:
        """How many executions run and wait, and what stands ready."""
        armed = {key: pool.armed for key, pool in self._pools.items()}
        return Census(self._admission.running, self._admission.queued, armed)

    def not_ready(self) -> list[str]:
        """What keeps this from serving, a sentence each; empty when it is ready."""
        stopping = "the server is stopping" if self._draining else None
        reasons = [stopping, self._backend.problem(), *(pool.problem for pool in self._pools.values())]
        return [reason for reason in reasons if reason]


def _draining() -> Draining:
    return Draining("the server is stopping; nothing was run, try again when it is back", retry_after=5)
