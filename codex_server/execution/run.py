"""The server's live handle on an execution: its events, its outcome, and how to cancel it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from signal import SIGKILL

from codex_server.errors import Cancelled, CodexError, Draining
from codex_server.execution.capture import Recorder
from codex_server.execution.events import EventLog, EventReader, Finished, Problem, Started
from codex_server.languages import Language
from codex_server.model import Ending, Execution, Outcome, Stop, Stream
from codex_server.sandboxes.stdin import StandardInput

Finish = Callable[[Outcome], Awaitable[Outcome]]
"""Makes of an outcome what everybody is to see of it."""


class Run:
    """An execution that an executor has started; it belongs to the executor, not to the waiting caller.

    ``finish`` receives the outcome when the sandbox is gone, and before anybody else sees it.
    ``began`` (monotonic) is None until the program is handed to a sandbox.
    """

    def __init__(
        self, execution: Execution, language: Language, flood_bytes: int, finish: Finish | None = None
    ) -> None:
        self.execution = execution
        self._finish = finish
        self.language = language
        self.began: float | None = None
        self.cancelled_ending: Ending | None = None
        """For the executor: how it ended as it was cancelled, where its sandbox knows."""
        self._arrived = time.monotonic()
        self._started_at: datetime | None = None
        self._recorder = Recorder(execution.limits.output_bytes, flood_bytes)
        self._log = EventLog(len(Stream) * execution.limits.output_bytes)
        self.stdin = StandardInput.of(execution)
        """What the program reads."""
        self._deadline: asyncio.Timeout | None = None
        self._refusal: CodexError | None = None
        self._admitted = asyncio.Event()
        self._task: asyncio.Task[Outcome] | None = None

    @property
    def id(self) -> str:
        """The execution's id."""
        return self.execution.id

    @property
    def ended(self) -> bool:
        """Whether there is an outcome, or an error in its place."""
        return self._task is not None and self._task.done()

    async def admitted(self) -> None:
        """Return once a sandbox has the program. Raises when it was rejected; then the program has not begun."""
        await self._admitted.wait()
        if self.began is None and self._task is not None:
            await asyncio.wait([self._task])
            self._task.result()

    async def wait(self, seconds: float) -> bool:
        """Whether it has ended, now or within ``seconds``."""
        assert self._task is not None  # noqa: S101 - the executor has started it
        await asyncio.wait([self._task], timeout=seconds)
        return self._task.done()

    async def outcome(self) -> Outcome:
        """Return the outcome; cancelling the wait does not cancel the run. Raises as ``Executor.execute`` does."""
        assert self._task is not None  # noqa: S101 - the executor has started it
        return await asyncio.shield(self._task)

    async def attended_outcome(self) -> Outcome:
        """The outcome, for the one that it is run for: cancelling the caller's task kills the program."""
        try:
            return await self.outcome()
        except asyncio.CancelledError:
            await self.abandon()
            raise

    def events(self, after: int = 0) -> EventReader:
        """Return a reader of the events with a number above ``after``, until the last one."""
        return self._log.since(after)

    def on_end(self, callback: Callable[["Run"], None]) -> None:
        """Have ``callback`` called once it has ended, with this run; soon, where it has ended already."""
        assert self._task is not None  # noqa: S101 - the executor has started it
        self._task.add_done_callback(lambda _: callback(self))

    @property
    def result(self) -> Outcome | Exception:
        """What became of it, once it has ended: its outcome, or why it has none."""
        assert self._task is not None  # noqa: S101 - the executor has started it
        error = stopping() if self._task.cancelled() else self._task.exception()
        if error is None:
            return self._task.result()
        return error if isinstance(error, Exception) else stopping()

    def write(self, data: bytes) -> None:
        """Send ``data`` to the program's standard input. Raises ``InputRefused``."""
        self.stdin.write(data)

    def wake_readers(self) -> None:
        """Wake every reader that waits for the next event."""
        self._log.wake()

    def cancel(self, refusal: CodexError | None = None) -> None:
        """Kill the program, or remove it from the queue; no effect once it has ended.

        ``refusal`` is raised in place of an outcome when the program has not begun.
        """
        self._refusal = refusal or Cancelled("the execution was cancelled before it began; nothing was run")
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())

    @property
    def abandoned(self) -> bool:
        """Whether it ended because nobody waited for it any more."""
        return self._task is not None and self._task.cancelled()

    async def abandon(self) -> None:
        """Cancel the run because nobody waits for it; return when it has ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def start(self, work: Coroutine[None, None, Outcome]) -> None:
        """For the executor: run ``work``, which returns the outcome."""
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._close)

    def deadline(self) -> asyncio.Timeout:
        """For the executor: return the context in which ``cancel`` works. Raises ``Draining`` if already cancelled."""
        if self._refusal:
            raise self._refusal
        self._deadline = asyncio.timeout(None)
        return self._deadline

    async def finished(self, outcome: Outcome) -> Outcome:
        """For the executor: what becomes of ``outcome``. From here on ``cancel`` has no effect."""
        self._deadline = None
        return await self._finish(outcome) if self._finish else outcome

    def begin(self) -> None:
        """For the executor: record that a sandbox has the program."""
        self.began, self._started_at = time.monotonic(), datetime.now(UTC)
        self._log.start(Started(self.id, self._started_at))
        self._admitted.set()

    def take_back(self) -> None:
        """For the executor: record that the sandbox was lost before the program began."""
        self.began = None

    def write_output(self, stream: Stream, chunk: bytes) -> bool:
        """For the sandbox: an ``OutputSink``."""
        self._log.write(stream, chunk)
        return self._recorder(stream, chunk)

    def ending_of_the_cancelled(self) -> Ending:
        """Return the ending of a program that was cancelled while running. Raises ``Draining`` before it began."""
        if self.began is None or self._started_at is None:
            raise self._refusal or stopping()
        if self.cancelled_ending:
            return self.cancelled_ending
        return Ending(
            exit_code=None,
            signal=SIGKILL,
            started_at=self._started_at,
            wall_seconds=time.monotonic() - self.began,
            cpu_seconds=None,
            peak_memory_bytes=None,
            stop=Stop.CANCELLED,
        )

    def outcome_with(self, ending: Ending) -> Outcome:
        """Return the outcome for ``ending``."""
        return Outcome(
            execution_id=self.id,
            ending=ending,
            stdout=self._recorder.captured(Stream.STDOUT),
            stderr=self._recorder.captured(Stream.STDERR),
            queue_seconds=(self.began or self._arrived) - self._arrived,
            limits=self.execution.limits,
        )

    def _close(self, _: asyncio.Task[Outcome]) -> None:
        self.stdin.abandon()
        result = self.result
        if isinstance(result, Outcome):
            self._log.close(Finished(result), result.ending.files)
        else:
            self._log.close(Problem(result))
        self._admitted.set()


def stopping() -> Draining:
    """Return the error for a server that stops."""
    return Draining("the server is stopping; nothing was run, try again when it is back", retry_after=5)
