"""The interpreters of a session that live: each is started once, and whoever needs it waits for the same start."""

import asyncio
from collections.abc import Callable, Iterable

from codex_server.errors import SandboxUnavailable
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import decode
from codex_server.sandboxes.protocol.report import failure_in
from codex_server.sandboxes.protocol.session import InterpreterOrder, InterpreterReady

_START_SECONDS = 30.0
_PERHAPS = (
    "; nothing was run; if what runs in the session uses up its processes or memory (`limits.processes`, "
    "`limits.memory_bytes`), end some of it, or open a session with more"
)
_GONE = "the session's sandbox is gone; nothing was run"


class Interpreters:
    """``send`` has init start one; it raises ``frames.Closed`` or ``OSError``. ``kill`` kills everything.

    INVARIANT: a start belongs to the session. It goes on when its caller is cancelled, and the next caller joins it.
    """

    def __init__(self, send: Callable[[InterpreterOrder], None], kill: Callable[[], None]) -> None:
        self._send, self._kill = send, kill
        self._alive: set[str] = set()
        self._starts: dict[str, asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._reply: asyncio.Future[None] | None = None
        """Init's reply to the last order."""
        self._lost = False

    def __contains__(self, name: str) -> bool:
        """Whether it lives."""
        return name in self._alive

    @property
    def names(self) -> frozenset[str]:
        """Those that live."""
        return frozenset(self._alive)

    def begin(self, order: InterpreterOrder) -> None:
        """Have it started in the background, if it is not there. Whether it failed is for the next one to find out."""
        if order.name not in self._alive and order.name not in self._starts:
            self._begin(order)

    async def ensure(self, order: InterpreterOrder) -> None:
        """Have it started, if it is not there. Raises ``SandboxUnavailable``."""
        if order.name not in self._alive:
            await asyncio.shield(self._starts.get(order.name) or self._begin(order))

    def _begin(self, order: InterpreterOrder) -> asyncio.Task[None]:
        task = self._starts[order.name] = asyncio.get_running_loop().create_task(self._start(order))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever still waits has it
        return task

    async def _start(self, order: InterpreterOrder) -> None:
        try:
            async with self._one_at_a_time, asyncio.timeout(_START_SECONDS):
                if self._lost:
                    raise SandboxUnavailable(_GONE)
                self._reply = asyncio.get_running_loop().create_future()
                self._send(order)
                await self._reply
        except (frames.Closed, OSError, TimeoutError) as error:
            self._kill()
            raise SandboxUnavailable("an interpreter of the session could not be started") from error
        finally:
            del self._starts[order.name]

    def ready(self, body: frames.Body) -> str:
        """One is ready: its name. Raises ``frames.BadFrame``."""
        name = decode(InterpreterReady, body).name
        if self._reply is None or self._reply.done():
            raise frames.BadFrame(f"an interpreter {name!r} that nobody has asked for")
        self._alive.add(name)  # at once: that it has ended may be the next message
        self._reply.set_result(None)
        return name

    def failed(self, kind: frames.Kind, body: frames.Body) -> None:
        """One could not be started. Raises ``frames.BadFrame`` when none was to be."""
        failure = failure_in(kind, body)
        if self._reply is None or self._reply.done():
            raise frames.BadFrame(failure)
        self._reply.set_exception(SandboxUnavailable(f"an interpreter could not be started ({failure}){_PERHAPS}"))

    def ended(self, names: Iterable[str]) -> None:
        """These live no more."""
        self._alive.difference_update(names)

    def lose(self) -> None:
        """None lives any more, and none can be started."""
        self._lost = True
        self._alive.clear()
        if self._reply and not self._reply.done():
            self._reply.set_exception(SandboxUnavailable(_GONE))
