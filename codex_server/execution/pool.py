"""Sandboxes made ready before they are asked for: one pool for every kind that the backend tells apart."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from codex_server.errors import CodexError, SandboxUnavailable
from codex_server.languages import Language
from codex_server.sandboxes.base import Backend, Sandbox

_log = logging.getLogger(__name__)

_ARM_SECONDS = 30.0
"""Longest time that arming one sandbox may take."""
_PRECEDENCE_SECONDS = 0.05
"""How long a refill lets the execution that took a sandbox have the processors for itself."""
_ANSWER_SECONDS = 0.002
"""How long the clearing up after an execution lets its answer go first."""
_LOOK_SECONDS = 2.0
"""How often an idle pool looks whether its sandboxes still live: they die with a zygote that was killed."""
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 30.0
_CLOSE_SECONDS = 10.0
_MOST_BEING_DESTROYED = 8
"""Above this many, a checkout first waits: making sandboxes must not outrun destroying them."""


class Pool:
    """Keeps ``size`` armed sandboxes of one kind; ``language`` is the one they are armed for.

    A checkout takes an armed sandbox, or arms one when there is none. The refill runs behind, one sandbox at a time,
    and starts when the execution that made the gap has ended or has run for ``precedence`` seconds.
    """

    def __init__(
        self,
        name: str,
        size: int,
        backend: Backend,
        language: Language,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        precedence: float = _PRECEDENCE_SECONDS,
    ) -> None:
        self.name = name
        self._size = size
        self._backend = backend
        self._language = language
        self._sleep = sleep
        self._precedence = precedence
        self._armed: deque[Sandbox] = deque()
        self._gap = asyncio.Event()
        self._refiller: asyncio.Task[None] | None = None
        self._being_destroyed: set[asyncio.Task[None]] = set()
        self._filled_once = size == 0
        self._trouble: str | None = None

    @property
    def armed(self) -> int:
        """Sandboxes that stand ready."""
        return sum(sandbox.alive for sandbox in self._armed)

    @property
    def problem(self) -> str | None:
        """What keeps the pool from being ready, as a sentence, or None. A pool that is merely used up is ready."""
        if self._trouble is not None:
            return f"the pool {self.name} cannot be filled: {self._trouble}"
        return None if self._filled_once else f"no sandbox of the pool {self.name} stands ready yet"

    def start(self) -> None:
        """Begin to fill, in the background."""
        self._gap.set()
        self._refiller = asyncio.create_task(self._keep_filled(), name=f"refill {self.name}")

    async def close(self) -> None:
        """Destroy every sandbox and wait until they are gone."""
        if self._refiller is not None:
            self._refiller.cancel()
            await asyncio.wait([self._refiller])
        while self._armed:
            self._discard(self._armed.popleft())
        if self._being_destroyed:
            _, pending = await asyncio.wait(self._being_destroyed, timeout=_CLOSE_SECONDS)
            if pending:
                _log.error("%d sandboxes of the pool %s would not be destroyed", len(pending), self.name)

    @asynccontextmanager
    async def checkout(self, language: Language) -> AsyncIterator[Sandbox]:
        """A living sandbox for ``language``; destroyed afterwards, in the background. Raises ``SandboxUnavailable``."""
        while len(self._being_destroyed) >= _MOST_BEING_DESTROYED:
            await asyncio.wait(self._being_destroyed, return_when=asyncio.FIRST_COMPLETED)
        sandbox = self._take() or await self._arm(language)
        loop = asyncio.get_running_loop()
        precedence = loop.call_later(self._precedence, self._gap.set)
        try:
            yield sandbox
        except BaseException:
            self._discard(sandbox)  # at once: its program may still run
            raise
        else:
            self._discard(sandbox, after=_ANSWER_SECONDS)
        finally:
            precedence.cancel()
            loop.call_later(_ANSWER_SECONDS, self._gap.set)

    def _take(self) -> Sandbox | None:
        """The oldest armed sandbox that is alive."""
        while self._armed:
            sandbox = self._armed.popleft()
            if sandbox.alive:
                return sandbox
            self._discard(sandbox)
        return None

    def _discard(self, sandbox: Sandbox, *, after: float = 0.0) -> None:
        task = asyncio.create_task(_destroy(sandbox, self.name, after))
        self._being_destroyed.add(task)
        task.add_done_callback(self._being_destroyed.discard)

    async def _arm(self, language: Language) -> Sandbox:
        try:
            async with asyncio.timeout(_ARM_SECONDS) as limit:
                return await self._backend.arm(language, self.name)
        except TimeoutError:
            if not limit.expired():
                raise
            raise SandboxUnavailable(f"no sandbox for {language.name} was ready within {_ARM_SECONDS:g} s") from None

    async def _keep_filled(self) -> None:
        failures = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._gap.wait()
            self._gap.clear()
            while self._short():
                if await self._add():
                    failures = 0
                else:
                    await self._sleep(min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**failures))
                    failures = min(failures + 1, 16)

    def _short(self) -> bool:
        """Whether a sandbox is missing; throws the dead ones out first."""
        for sandbox in [sandbox for sandbox in self._armed if not sandbox.alive]:
            self._armed.remove(sandbox)
            self._discard(sandbox)
        return len(self._armed) < self._size

    async def _add(self) -> bool:
        try:
            self._armed.append(await self._arm(self._language))
        except CodexError as error:
            self._trouble = error.detail
            _log.warning("the pool %s cannot be filled: %s", self.name, error)
            return False
        except Exception:  # the refiller must outlive a defect in a backend, and say so
            self._trouble = "an internal error; the server's log has it"
            _log.exception("the pool %s cannot be filled", self.name)
            return False
        self._trouble = None
        self._filled_once = True
        return True


async def _destroy(sandbox: Sandbox, pool: str, after: float) -> None:
    try:
        await asyncio.sleep(after)
        await sandbox.destroy()
    except Exception:  # nobody awaits this task: the log is the only place to tell it
        _log.exception("a sandbox of the pool %s could not be destroyed", pool)
