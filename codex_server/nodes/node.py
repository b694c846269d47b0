"""The contract between the doors and a place that runs executions, wherever that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from codex_server.execution.run import Finish, Run
from codex_server.execution.session import Session, Turn
from codex_server.model import Caller, Execution
from codex_server.packages.package_set import Package
from codex_server.sandboxes.base import IsolationLevel
from codex_server.sandboxes.session import SessionPlan


@dataclass(frozen=True, slots=True)
class LanguageInfo:
    """A language as callers see it: nothing of the host that runs it, its paths least of all."""

    name: str
    title: str
    version: str | None
    available: bool
    aliases: tuple[str, ...]
    file_name: str
    packages: tuple[Package, ...]


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much runs and waits on a node, what stands ready by pool, and how strongly programs are kept in."""

    running: int
    queued: int
    armed: Mapping[str, int]
    isolation: IsolationLevel
    draining: bool


class ExecutionNode(Protocol):
    """A place that runs executions. The seam lies above pools: arming and retries never cross it."""

    def languages(self) -> Sequence[LanguageInfo]:
        """Every language that the node knows."""

    def capacity(self) -> Capacity:
        """What it does now."""

    def submit(
        self, execution: Execution, caller: Caller, finish: Finish | None = None, turn: Turn | None = None
    ) -> Run:
        """Take ``execution`` on. Raises what ``Executor.submit`` raises. ``finish``: see ``Run``.

        ``turn``: run it as the next cell of a session of this node.
        """

    async def open_session(self, plan: SessionPlan) -> Session:
        """Open a session. Raises ``Draining`` or ``SandboxUnavailable``."""

    def problems(self) -> Sequence[str]:
        """What keeps it from serving, a sentence each; empty when it is ready."""
