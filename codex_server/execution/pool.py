"""Pools of armed sandboxes: one pool for each kind that the backend distinguishes."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from codex_server.errors import CodexError, SandboxUnavailable
from codex_server.languages import Language
from codex_server.model import PIPES, Stdio
from codex_server.sandboxes.base import Backend, Sandbox

_log = logging.getLogger(__name__)

_ARM_SECONDS = 30.0
"""Longest time that arming one sandbox may take."""
_PRECEDENCE_SECONDS = 0.05
"""How long a refill waits, so that the execution which took a sandbox has the CPUs for itself."""
_RESPONSE_SECONDS = 0.002
"""How long the cleanup after an execution waits, so that the response is sent first."""
_CHECK_SECONDS = 2.0
"""How often an idle pool checks that its sandboxes are alive: they die with their zygote."""
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 30.0
_CLOSE_SECONDS = 10.0
_MOST_BEING_DESTROYED = 8
"""With this many, a checkout waits first: creation of sandboxes must not outrun their destruction."""


class Pool:
    """Keeps ``size`` armed sandboxes of one kind; ``language`` is the one they are armed for.

    A checkout takes an armed sandbox, or arms one when there is none. The refill runs in the background, one sandbox at
    a time. It starts when the execution that took a sandbox has ended or has run for ``precedence`` seconds.
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
        """The number of armed sandboxes."""
        return sum(sandbox.alive for sandbox in self._armed)

    @property
    def problem(self) -> str | None:
        """Why the pool is not ready, as a sentence, or None. A pool that is only used up is ready."""
        if self._trouble is not None:
            return f"the pool {self.name} cannot be filled: {self._trouble}"
        return None if self._filled_once else f"no sandbox of the pool {self.name} is ready yet"

    def start(self) -> None:
        """Start to fill the pool in the background."""
        self._gap.set()
        self._refiller = asyncio.create_task(self._keep_filled(), name=f"refill {self.name}")

    async def close(self) -> None:
        """Destroy every sandbox and wait until they are destroyed."""
        if self._refiller is not None:
            self._refiller.cancel()
            await asyncio.wait([self._refiller])
        while self._armed:
            self._discard(self._armed.popleft())
        if self._being_destroyed:
            _, pending = await asyncio.wait(self._being_destroyed, timeout=_CLOSE_SECONDS)
            if pending:
                _log.error("%d sandboxes of the pool %s could not be destroyed", len(pending), self.name)

    @asynccontextmanager
    async def checkout(self, language: Language, stdio: Stdio = PIPES) -> AsyncIterator[Sandbox]:
        """Yield a live sandbox for ``language``, then destroy it in the background. Raises ``SandboxUnavailable``.

        What is armed in advance has pipes: for any other ``stdio`` one is armed now.
        """
        while len(self._being_destroyed) >= _MOST_BEING_DESTROYED:
            await asyncio.wait(self._being_destroyed, return_when=asyncio.FIRST_COMPLETED)
        sandbox = (self._take() if stdio == PIPES else None) or await self._arm(language, stdio)
        loop = asyncio.get_running_loop()
        precedence = loop.call_later(self._precedence, self._gap.set)
        try:
            yield sandbox
        except BaseException:
            self._discard(sandbox)  # at once: its program may still run
            raise
        else:
            self._discard(sandbox, after=_RESPONSE_SECONDS)
        finally:
            precedence.cancel()
            loop.call_later(_RESPONSE_SECONDS, self._gap.set)

    def _take(self) -> Sandbox | None:
        """Remove and return the oldest armed sandbox that is alive."""
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

    async def _arm(self, language: Language, stdio: Stdio = PIPES) -> Sandbox:
        try:
            async with asyncio.timeout(_ARM_SECONDS) as limit:
                return await self._backend.arm(language, self.name, stdio)
        except TimeoutError:
            if not limit.expired():
                raise
            raise SandboxUnavailable(f"no sandbox for {language.name} was ready within {_ARM_SECONDS:g} s") from None

    async def _keep_filled(self) -> None:
        failures = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_SECONDS):
                    await self._gap.wait()
            self._gap.clear()
            while self._short():
                if await self._add():
                    failures = 0
                else:
                    await self._sleep(min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**failures))
                    failures = min(failures + 1, 16)

    def _short(self) -> bool:
        """Discard dead sandboxes, then return whether one is missing."""
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
        except Exception:  # the refill must survive a defect in a backend, and report it
            self._trouble = "an internal error; see the server's log"
            _log.exception("the pool %s cannot be filled", self.name)
            return False
        self._trouble = None
        self._filled_once = True
        return True


async def _destroy(sandbox: Sandbox, pool: str, after: float) -> None:
    try:
        await asyncio.sleep(after)
        await sandbox.destroy()
    except Exception:  # nobody awaits this task: it can only be logged
        _log.exception("a sandbox of the pool %s could not be destroyed", pool)
