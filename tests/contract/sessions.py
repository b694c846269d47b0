"""A session on a harness's backend, whose cells a test runs one after another."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from codex_server.execution.run import Run
from codex_server.execution.session import Session, Turn
from codex_server.ids import new_id
from codex_server.model import CellFacts, InputFile, Outcome
from codex_server.sandboxes.session import NamedWorkspace, SessionPlan
from tests.contract.harness import Harness


class Cells:
    """Runs cells in ``session``; its methods wait for their end."""

    def __init__(self, harness: Harness, session: Session) -> None:
        self.harness = harness
        self.session = session

    def submit(self, code: str, language: str = "python", *, wait: bool = True, **given: Any) -> Run:
        """The run of a cell; in the harness's event loop."""
        execution = self.harness.execution(language, code, **given)
        return self.harness.executor.submit(execution, turn=Turn(self.session, wait))

    def run(self, code: str, language: str = "python", **given: Any) -> Outcome:
        """The outcome of a cell."""

        async def outcome() -> Outcome:
            return await self.submit(code, language, **given).outcome()

        return self.harness.wait(outcome())

    def shown(self, code: str, language: str = "python", **given: Any) -> str:
        """What a cell printed, when all went well."""
        outcome = self.run(code, language, **given)
        assert outcome.exit_code == 0, outcome
        return outcome.stdout.text

    def while_running(self, run: Callable[[], Run], action: Callable[[Run], Awaitable[None]]) -> Outcome:
        """The outcome of a cell during which ``action`` is taken, once it has begun."""

        async def play() -> Outcome:
            begun = run()
            await begun.admitted()
            await action(begun)
            return await begun.outcome()

        return self.harness.wait(play())


@contextmanager
def opened(
    harness: Harness,
    *,
    files: dict[str, bytes] | None = None,
    workspace: NamedWorkspace | None = None,
    begin: tuple[str, ...] = (),
    **limits: float,
) -> Iterator[Cells]:
    """A session with the server's limits, tightened."""
    tight = harness.settings.ceilings.tightened(limits)
    inputs = tuple(InputFile(path, content) for path, content in (files or {}).items())
    plan = SessionPlan(new_id("ses"), tight, inputs, workspace, begin)
    session = harness.wait(harness.executor.open_session(plan))
    try:
        yield Cells(harness, session)
    finally:
        harness.wait(session.close("the test is over"))


def facts(outcome: Outcome) -> CellFacts:
    """What the session adds to an ending."""
    assert outcome.ending.cell is not None, outcome
    return outcome.ending.cell


async def until(condition: Callable[[], bool]) -> None:
    """Return once ``condition`` holds."""
    while not condition():
        await asyncio.sleep(0.01)
