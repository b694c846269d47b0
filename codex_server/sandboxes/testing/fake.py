"""A backend in memory, for the tests of everything above it; it passes the same contract as the real ones.

The code of an execution is a script (``script.py``).
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from codex_server.errors import SandboxUnavailable
from codex_server.interpreters import Interpreter
from codex_server.languages import Language, Languages, Start
from codex_server.model import PIPES, Ending, Execution, Stdio, Stream
from codex_server.sandboxes.base import Backend, Isolation, IsolationLevel, Sandbox
from codex_server.sandboxes.session import OutputSink, SessionPlan, SessionSandbox
from codex_server.sandboxes.stdin import StandardInput
from codex_server.sandboxes.testing.fake_session import FakeSession
from codex_server.sandboxes.testing.script import Script


class FakeBackend(Backend):
    """Arms fake sandboxes, and keeps account of them. A test sets the public fields to bring bad luck."""

    name = "fake"

    def __init__(self) -> None:
        self.arms_that_fail = 0
        """So many of the next calls of ``arm`` raise ``SandboxUnavailable``."""
        self.runs_that_find_death = 0
        """So many of the next calls of ``Sandbox.run`` raise ``SandboxUnavailable``."""
        self.extra_pools: tuple[str, ...] = ()
        self.no_terminal: str | None = None
        """What ``refusal`` answers for a terminal."""
        self.trouble: str | None = None
        """What ``problem`` answers."""
        self.arming: Callable[[], asyncio.Future[None]] | None = None
        """Awaited by ``arm`` when set: lets a test hold arming up."""
        self.armed: list[FakeSandbox] = []
        """Every sandbox ever armed, oldest first."""
        self.sessions: list[FakeSession] = []
        """Every session ever opened, oldest first."""
        self.executions: list[Execution] = []
        """Every execution whose code began."""
        self.started = False
        self._events: dict[str, asyncio.Event] = {}

    @property
    def living(self) -> "list[FakeSandbox]":
        """Sandboxes that were armed and are not destroyed: empty when nothing leaked."""
        return [sandbox for sandbox in self.armed if not sandbox.destroyed]

    def event(self, name: str) -> asyncio.Event:
        """The event that the word ``wait NAME`` of a script waits for."""
        return self._events.setdefault(name, asyncio.Event())

    async def start(self) -> None:
        """Nothing to make ready."""
        self.started = True

    async def close(self) -> None:
        """Destroy what the caller left; a test asks ``living`` before."""
        self.started = False
        for sandbox in self.living:
            await sandbox.destroy()

    @property
    def isolation(self) -> Isolation:
        """Full: nothing is run."""
        return Isolation(IsolationLevel.FULL, "nothing is run, so nothing can get out")

    def problem(self) -> str | None:
        """``trouble``, as the test set it."""
        return self.trouble

    def pool_keys(self, language: Language) -> tuple[str, ...]:
        """As the runner says, and those of ``extra_pools``."""
        return (language.pool, *self.extra_pools)

    def pool_key(self, language: Language, code: str, given: Iterable[str] = ()) -> str:
        """The one of ``extra_pools`` that the code names, else the runner's."""
        return next((pool for pool in self.extra_pools if pool in code), language.pool)

    def refusal(self, stdio: Stdio) -> str | None:
        """``no_terminal``, as the test set it, for a terminal."""
        return self.no_terminal if stdio.terminal else None

    async def open_session(self, plan: SessionPlan) -> SessionSandbox:
        """A session of scripts."""
        await (self.arming() if self.arming else asyncio.sleep(0))
        if self.arms_that_fail:
            self.arms_that_fail -= 1
            raise SandboxUnavailable("the fake was told not to open a session")
        session = FakeSession(plan, self.event, self.executions)
        self.sessions.append(session)
        return session

    async def arm(self, language: Language, pool: str = "", stdio: Stdio = PIPES) -> Sandbox:
        """A sandbox that serves one script."""
        await (self.arming() if self.arming else asyncio.sleep(0))
        if self.arms_that_fail:
            self.arms_that_fail -= 1
            raise SandboxUnavailable(f"the fake was told not to arm a sandbox for {language.name}")
        sandbox = FakeSandbox(self, stdio)
        self.armed.append(sandbox)
        return sandbox


class FakeSandbox(Sandbox):
    """Interprets one script. ``dead`` may be set by a test: it died while it waited."""

    def __init__(self, backend: FakeBackend, stdio: Stdio) -> None:
        self._backend = backend
        self._stdio = stdio
        self.dead = False
        self.used = False
        self.destroyed = False

    @property
    def alive(self) -> bool:
        """Whether it waits for its one script."""
        return not (self.dead or self.used or self.destroyed)

    async def run(
        self, execution: Execution, language: Language, output: OutputSink, stdin: StandardInput | None = None
    ) -> Ending:
        """Interpret the script."""
        if not self.alive:
            raise SandboxUnavailable("the fake sandbox was found dead")
        self.used = True
        if self._backend.runs_that_find_death:
            self._backend.runs_that_find_death -= 1
            raise SandboxUnavailable("the fake sandbox was told to be dead")
        self._backend.executions.append(execution)
        into = partial(_into_one, output) if self._stdio != PIPES else output
        return await Script(execution, into, stdin or StandardInput.of(execution), self._backend.event).run()

    async def destroy(self) -> None:
        """Take it off the account."""
        self.destroyed = True
        await asyncio.sleep(0)


def _into_one(output: OutputSink, _: Stream, chunk: bytes) -> bool:
    """What a sandbox with one stream for both passes on."""
    return output(Stream.STDOUT, chunk)


def fake_languages() -> Languages:
    """Python, JavaScript, TypeScript and Bash as though this machine had them, and Cobol, which it has not."""
    return Languages(
        [
            _language("python", "python", ("py", "python3")),
            _language("javascript", "javascript", ("js", "node")),
            _language("typescript", "javascript", ("ts",)),
            _language("bash", "python", ("sh",)),
            _language("cobol", "python", (), available=False),
        ]
    )


def _language(name: str, pool: str, aliases: tuple[str, ...], *, available: bool = True) -> Language:
    return Language(
        name=name,
        title=name.capitalize(),
        aliases=aliases,
        file_name=f"main.{name}",
        start=Start.COMMAND,
        command=("{program}", "{file}"),
        env={},
        pool=pool,
        folder=Path(f"/nonexistent/{name}"),
        interpreter=Interpreter(f"/nonexistent/bin/{name}", Path(f"/nonexistent/bin/{name}")) if available else None,
        version="1.2.3" if available else None,
    )
