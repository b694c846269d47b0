"""The contract between the executor and whatever builds sandboxes.

A backend *arms* a sandbox: everything is made and confined, and it waits. It serves one execution and is destroyed.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Self

from codex_server.imports import needs, speaks_of
from codex_server.languages import Language, Languages
from codex_server.model import PIPES, Ending, Execution, Stdio
from codex_server.sandboxes.session import OutputSink, SessionPlan, SessionSandbox
from codex_server.sandboxes.stdin import StandardInput


class IsolationLevel(IntEnum):
    """How strongly a guest is kept in; a higher number is stronger. Nothing exists below ``CONFINED``."""

    CONFINED = 1
    """Landlock, seccomp and rlimits; no namespaces."""
    NAMESPACES = 2
    """Own user, pid, mount, network, ipc and uts namespaces, seccomp; memory is bounded by a watchdog."""
    FULL = 3
    """The same, a uid per sandbox, and cgroups that bound memory, processes and CPU time."""

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Isolation:
    """The level that a backend reached; ``shortfall`` says what keeps it from ``full``, and the remedy."""

    level: IsolationLevel
    summary: str
    shortfall: tuple[str, ...] = ()


class Sandbox(ABC):
    """An armed sandbox: it serves one execution and is then destroyed."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it can still be handed an execution."""

    @abstractmethod
    async def run(
        self, execution: Execution, language: Language, output: OutputSink, stdin: StandardInput | None = None
    ) -> Ending:
        """Run ``execution`` to its end; every limit is enforced from outside the guest.

        ``stdin`` is the program's standard input, by default what the execution brings.

        Cancelling the caller's task kills everything in the sandbox. Raises ``SandboxUnavailable`` when the sandbox was
        found dead before any of the user's code could have begun (the executor may then take another), and
        ``SandboxFault`` when it was lost later.
        """

    @abstractmethod
    async def destroy(self) -> None:
        """Kill and free everything; safe to call twice. Whoever started a ``run`` ends it first."""


class Backend(ABC):
    """A builder of sandboxes."""

    name: str
    in_place_of: str | None = None
    """Where nobody requested this one: why the one that goes first cannot be had here."""

    @abstractmethod
    async def start(self) -> None:
        """Make ready. Raises ``IsolationTooWeak`` or ``StartupError`` when the promises cannot be kept on this host."""

    @abstractmethod
    async def close(self) -> None:
        """End and free everything that ``start`` and ``arm`` made."""

    @property
    @abstractmethod
    def isolation(self) -> Isolation:
        """The level that was reached; known after ``start``."""

    async def survey(self, languages: Languages) -> Languages:
        """``languages`` as this backend runs them: with the interpreters that its sandboxes have. After ``start``."""
        return languages

    @abstractmethod
    def problem(self) -> str | None:
        """What keeps the backend from arming sandboxes now, as a sentence, or None (for ``/readyz``)."""

    @abstractmethod
    def pool_keys(self, language: Language) -> tuple[str, ...]:
        """The names of the pools that serve ``language``; languages that can share armed sandboxes share them.

        The first serves any program; a second, ``PRELOADED`` at its end, those that import ``preload_for``.
        """

    def pool_key(self, language: Language, code: str, given: Iterable[str] = ()) -> str:
        """The one of them that serves ``code`` best; ``given`` are its variables' and files' names, and modules' text.

        What preloaded modules have read when they were imported cannot be changed any more: a program that speaks of
        such a thing, or is given one, goes where nothing is preloaded. Never blocks.
        """
        plain, *preloaded = self.pool_keys(language)
        if not preloaded or not needs(code, language.preload_for):
            return plain
        return plain if speaks_of((code, *given), language.preload_not_for) else preloaded[0]

    def refusal(self, stdio: Stdio) -> str | None:
        """Why no sandbox here can have ``stdio``, and what to do, as a sentence; None where it can. After ``start``."""
        return None

    @abstractmethod
    async def arm(self, language: Language, pool: str = "", stdio: Stdio = PIPES) -> Sandbox:
        """An armed sandbox for ``pool`` (by default the language's first); what was in it before leaves no trace.

        It serves executions with the same ``stdio`` alone: a program has its streams before it has its code.

        Raises ``SandboxUnavailable``; leaves nothing behind when it fails or is cancelled.
        """

    @abstractmethod
    async def open_session(self, plan: SessionPlan) -> SessionSandbox:
        """A sandbox for the session ``plan``, with its files in place and no interpreter yet.

        Raises ``SandboxUnavailable``; leaves nothing behind when it fails or is cancelled.
        """

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
