"""Many programs in one request: each as ``/execute`` takes it, a few at a time, results by their place."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from codex_server.errors import NotRun
from codex_server.execution.run import Run
from codex_server.model import Execution, Outcome, Status
from codex_server.service.fields import FieldError, FieldsInvalid
from codex_server.service.request_parsing import A_PROGRAM, read_request
from codex_server.service.schemas import BatchRequest, ExecuteRequest


@dataclass(frozen=True, slots=True)
class Ran:
    """An item that was run."""

    execution: Execution
    outcome: Outcome


Result = Ran | Exception
"""What became of an item, or why nothing did."""


class Batch:
    """Runs the items of ``request``. An item that is refused, or lost, is a result like any other."""

    def __init__(self, request: BatchRequest, submit: Callable[[ExecuteRequest], Awaitable[Run]]) -> None:
        self._submit = submit
        self._items = list(enumerate(request.items))
        self._stop_on_failure = request.stop_on_failure
        self._workers = min(request.max_parallel, len(self._items))
        self._failed: int | None = None
        self._done: asyncio.Queue[tuple[int, Result] | None] = asyncio.Queue()

    def wake(self) -> None:
        """Have ``results`` say that nothing has come."""
        self._done.put_nowait(None)

    async def results(self, silence: float | None = None) -> AsyncIterator[tuple[int, Result] | None]:
        """Each item's place and result, as they come; None after each ``silence`` of so many seconds.

        INVARIANT: nothing runs any more when this is closed.
        """
        pending = iter(self._items)
        count = len(self._items)
        workers = [asyncio.ensure_future(self._work(pending)) for _ in range(self._workers)]
        try:
            while count:
                found = await self._next(silence)
                yield found
                count -= found is not None
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _next(self, silence: float | None) -> tuple[int, Result] | None:
        try:
            async with asyncio.timeout(silence):
                return await self._done.get()
        except TimeoutError:
            return None

    async def _work(self, pending: Iterator[tuple[int, object]]) -> None:
        for place, item in pending:  # one iterator for all: each takes the next item
            try:
                result: Result = await self._run(item)
            except Exception as error:  # whatever it is, it is this item's
                result = error
            if not (isinstance(result, Ran) and result.outcome.status is Status.SUCCEEDED) and self._failed is None:
                self._failed = place
            self._done.put_nowait((place, result))

    async def _run(self, item: object) -> Ran:
        if self._stop_on_failure and self._failed is not None:
            raise NotRun(f"it was not run: item {self._failed} failed before, and `stop_on_failure` is set")
        if not isinstance(item, dict):
            raise FieldsInvalid([FieldError("", f"an item must be an object such as {A_PROGRAM}")])
        wanted = read_request(item)
        run = await self._submit(wanted)
        return Ran(run.execution, await run.attended_outcome())


def shares(lengths: Sequence[int], total: int) -> list[int]:
    """How much of ``total`` each may have: what it needs, where all have room; else what is left in equal parts."""
    given = [0] * len(lengths)
    by_length = sorted(range(len(lengths)), key=lambda place: lengths[place])
    for rank, place in enumerate(by_length):
        given[place] = min(lengths[place], total // (len(lengths) - rank))
        total -= given[place]
    return given
