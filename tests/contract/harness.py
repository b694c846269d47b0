"""A backend with an executor on it, on which programs are played."""

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from codex_server.execution.executor import Executor
from codex_server.ids import new_id
from codex_server.languages import Languages
from codex_server.model import Execution, InputFile, Outcome
from codex_server.sandboxes.base import Backend
from codex_server.settings import Settings
from tests.contract.case import Case

T = TypeVar("T")


class Harness:
    """Runs executions one at a time or together; its methods wait for their end."""

    def __init__(self, name: str, runner: asyncio.Runner, backend: Backend, languages: Languages, settings: Settings):
        self.name = name
        self.settings = settings
        self.backend = backend
        self.languages = languages
        self.executor = self.new_executor()
        self._runner = runner

    def new_executor(self) -> Executor:
        """Another executor on the same backend."""
        return Executor(self.backend, self.languages, self.settings)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work`` in this harness's event loop."""
        return self._runner.run(work)

    def language(self, name: str) -> str:
        """The language to ask for: the fake speaks its own, whatever it is called."""
        return "python" if name == "fake" else name

    def execution(self, language: str, code: str, limits: dict[str, float] | None = None, **given: Any) -> Execution:
        """An execution with this server's limits, tightened."""
        tight = self.settings.ceilings.tightened({"wall_seconds": 20.0} | (limits or {}))
        files = tuple(InputFile(path, content) for path, content in given.pop("files", {}).items())
        return Execution(new_id("exe"), self.language(language), code, tight, files=files, **given)

    def run(self, language: str, code: str, **given: Any) -> Outcome:
        """The outcome of a program."""
        return self.wait(self.executor.execute(self.execution(language, code, **given)))

    def run_case(self, case: Case, language: str) -> Outcome:
        """The outcome of a case."""
        given = {
            "stdin": case.stdin,
            "args": case.args,
            "env": case.env,
            "files": dict(case.files),
            "stdio": case.stdio,
        }
        return self.run(language, case.source(language), limits=dict(case.limits), **given)


def processes_with(mark: str) -> list[int]:
    """Processes of this machine, in whatever namespace, whose command line holds ``mark``."""
    return list(_find(mark.encode()))


def _find(mark: bytes) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "cmdline").read_bytes():
                yield int(folder.name)
        except OSError:  # it ended meanwhile
            continue
