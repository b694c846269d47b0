"""The node in this process: an executor and its backend."""

from collections.abc import Sequence

from codex_server.execution.executor import Executor
from codex_server.execution.run import Finish, Run
from codex_server.execution.session import Session, Turn
from codex_server.languages import Language, Languages
from codex_server.model import Caller, Execution
from codex_server.nodes.node import Capacity, LanguageInfo
from codex_server.sandboxes.base import Backend
from codex_server.sandboxes.session import SessionPlan


class LocalNode:
    """An ``ExecutionNode`` around ``executor``, which the caller starts and closes."""

    def __init__(self, executor: Executor, backend: Backend, languages: Languages) -> None:
        self._executor = executor
        self._backend = backend
        self._languages = tuple(map(_describe, languages))

    def languages(self) -> Sequence[LanguageInfo]:
        """Every language, with the version of the interpreter that was found."""
        return self._languages

    def capacity(self) -> Capacity:
        """What the executor does, and the level that the backend saw work."""
        stats = self._executor.stats()
        level = self._backend.isolation.level
        return Capacity(stats.running, stats.queued, stats.armed, level, self._executor.draining)

    def submit(
        self, execution: Execution, caller: Caller, finish: Finish | None = None, turn: Turn | None = None
    ) -> Run:
        """Have the executor take it on; whoever may call may run here, so the caller is not looked at."""
        return self._executor.submit(execution, finish, turn)

    async def open_session(self, plan: SessionPlan) -> Session:
        """Have the executor open one."""
        return await self._executor.open_session(plan)

    def problems(self) -> Sequence[str]:
        """What keeps the executor from serving."""
        return self._executor.not_ready()


def _describe(language: Language) -> LanguageInfo:
    return LanguageInfo(
        name=language.name,
        title=language.title,
        version=language.version,
        available=language.available,
        aliases=language.aliases,
        file_name=language.file_name,
        packages=language.packages.packages if language.packages else (),
    )
