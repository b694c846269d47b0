"""Executions that can be followed: found by their id, polled, cancelled, and kept for a while after they ended."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial

from codex_server.errors import (
    Cancelled,
    CodexError,
    ExecutionLost,
    InputRefused,
    OutcomeGone,
    SessionBusy,
    SessionEnded,
    Unavailable,
    UnknownExecution,
)
from codex_server.execution.run import Run
from codex_server.languages import Languages
from codex_server.model import Caller, Execution, Outcome, Status, Stream
from codex_server.nodes.node import ExecutionNode
from codex_server.service.artifacts import Artifacts, Inlining
from codex_server.service.cells import Cell
from codex_server.service.cursors import Cursors
from codex_server.service.hints import hint_for
from codex_server.service.history import QUEUED, RUNNING, ExecutionEntry, History
from codex_server.service.outcomes import KeptOutcome, KeptProblem, Outcomes, read_pieces, texts_of
from codex_server.service.pending_outcomes import PendingOutcomes
from codex_server.service.quota import Quota, Standing
from codex_server.service.response import build_response, explain
from codex_server.service.schemas import ExecuteResponse
from codex_server.service.truncation import links_of
from codex_server.service.usage import Usage

REFUSED, LOST = "refused", "lost"
_CANCEL_SECONDS = 10.0
"""How long a cancelled program may take to end before the caller is told its state as it is."""
_LOST = KeptProblem(
    slug=ExecutionLost.slug,
    detail="the server was killed while the program ran, so its outcome is unknown and it is not run again; "
    "submit it again if running the program twice does no harm",
)
_FAILED = KeptProblem(
    slug="internal",
    detail="the server failed while the program ran; whoever runs it finds the cause in its log under the id of the "
    "execution",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an execution came from: who asked for it, in which request, with which client.

    The response that it gets has ``room`` for so many characters.
    """

    caller: Caller
    request_id: str
    user_agent: str | None = None
    room: int = 100_000


@dataclass(frozen=True, slots=True)
class Progress:
    """What is new of an execution: the output after a cursor, and the response or problem once it has ended."""

    execution_id: str
    status: str
    next: int
    stdout: str = ""
    stderr: str = ""
    response: ExecuteResponse | None = None
    problem: KeptProblem | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.response is not None or self.problem is not None


@dataclass(slots=True, eq=False)
class _Followed:
    """A run that has not ended."""

    run: Run
    origin: Origin
    entry: ExecutionEntry
    day: date


class Executions:
    """Submits executions, and knows those of each caller by their ids.

    The outcome of one that ``keep`` was called for is stored when it ends. INVARIANT: an execution of another caller is
    unknown, whatever is asked of it.
    """

    def __init__(
        self,
        node: ExecutionNode,
        history: History,
        outcomes: Outcomes,
        artifacts: Artifacts,
        languages: Languages,
        *,
        usage: Usage,
        quota: Quota,
        cursors: Cursors,
        max_chars: int,
        max_inline: int,
        keep_code: bool = False,
    ) -> None:
        self._node, self._history, self._outcomes, self._languages = node, history, outcomes, languages
        self._pending = PendingOutcomes(outcomes, history)
        self._usage, self._quota, self._cursors = usage, quota, cursors
        self._artifacts, self._max_inline = artifacts, max_inline
        self._max_chars, self._keep_code = max_chars, keep_code
        self._live: dict[str, _Followed] = {}

    async def submit(
        self, execution: Execution, origin: Origin, report: Callable[[Standing], None], cell: Cell | None = None
    ) -> Run:
        """Start it. Raises ``QuotaExceeded``, ``SessionEnded``, and what ``ExecutionNode.submit`` raises.

        ``report`` gets where the caller then stands, where a quota is set; ``cell`` is its place in a session.
        """
        day = await self._count(origin.caller, report)
        try:
            run = self._start(execution, origin, cell)
        except BaseException:
            self._charge(day, origin.caller, None)
            raise
        session_id = cell.session.id if cell else None
        entry = _new_entry(execution, origin, session_id, keep_code=self._keep_code)
        followed = _Followed(run, origin, entry, day)
        self._live[run.id] = followed
        self._history.note(origin.caller.key, followed.entry)  # for a server that is killed; a short run replaces it
        run.on_end(self._end)
        return run

    async def check(self, caller: Caller, count: int, report: Callable[[Standing], None]) -> None:
        """Whether the caller may run so many now. Raises ``QuotaExceeded``; nothing is counted."""
        if self._quota.is_set:
            await self._quota.check(caller, count, report)

    def check_room(self) -> None:
        """Whether an outcome more can be kept. Raises ``Busy``."""
        self._pending.check_room()

    async def keep(self, run: Run) -> None:
        """Store its outcome when it ends; once this returns a restart cannot make anyone forget the execution.

        Call it right after ``submit``.
        """
        followed = self._live[run.id]
        followed.entry = followed.entry.model_copy(update={"background": True})
        await self._history.write(followed.origin.caller.key, followed.entry)

    async def page(self, owner: str, cursor: str | None, limit: int) -> tuple[list[ExecutionEntry], str | None]:
        """The executions of ``owner``, newest first, and the next page's cursor.

        On the first page there are also those that have not ended. Raises ``InvalidRequest`` for a wrong cursor.
        """
        before = await self._cursors.open(cursor, owner)
        entries, following = await self._history.page(owner, before, limit)
        live = {run_id: self._now(each) for run_id, each in self._live.items() if each.origin.caller.key == owner}
        known = {entry.execution_id for entry in entries}
        entries = [live.get(entry.execution_id) or _as_left(entry) for entry in entries]
        if before is None:
            entries = [*(entry for key, entry in reversed(live.items()) if key not in known), *entries]
        return entries, await self._cursors.seal(following, owner)

    async def progress(self, execution_id: str, owner: str, since: int = 0, seconds: float = 0.0) -> Progress:
        """What is new after ``since``, as soon as anything is, at the latest after ``seconds``.

        Raises ``UnknownExecution``, or ``OutcomeGone`` when it has ended and its outcome is not kept.
        """
        followed = self._find(execution_id, owner)
        if followed is None:
            return await self._stored_progress(execution_id, owner, since)
        if seconds:
            await followed.run.events(since).wait(seconds)
        if followed.run.ended:
            return self._ended_progress(followed.run, since)
        pieces, cursor = read_pieces(followed.run.events(since), self._max_chars // 4)
        texts = texts_of(pieces)
        return Progress(
            execution_id, self._now(followed).status, cursor, stdout=texts[Stream.STDOUT], stderr=texts[Stream.STDERR]
        )

    async def cancel(self, execution_id: str, owner: str, since: int = 0) -> Progress:
        """Kill the program, or take it out of the queue; nothing once it has ended. Returns how it stands then."""
        if (followed := self._find(execution_id, owner)) is None:
            return await self._stored_progress(execution_id, owner, since)
        followed.run.cancel()
        if await followed.run.wait(_CANCEL_SECONDS):
            return self._ended_progress(followed.run, since)
        return await self.progress(execution_id, owner, since)

    async def write(self, execution_id: str, owner: str, data: bytes | None) -> None:
        """Send ``data`` to the program's standard input; None ends it.

        Raises ``InputRefused``, also for one that has ended, or ``UnknownExecution``.
        """
        if (followed := self._find(execution_id, owner)) is None:
            if await self._history.find(execution_id, owner) is None:
                raise _unknown(execution_id)
            raise InputRefused("the program has ended; start it again to send it input")
        if data is None:
            followed.run.stdin.close()
        else:
            followed.run.write(data)

    async def close(self) -> None:
        """Store what has ended and is not stored yet. Call it when nothing runs any more."""
        await self._pending.close()
        await self._history.close()
        await self._usage.close()

    async def _count(self, caller: Caller, report: Callable[[Standing], None]) -> date:
        """Count an execution on the day that is returned. Without a quota it is counted at its end: no store here."""
        if not self._quota.is_set:
            return self._usage.now().date()
        return await self._quota.take(caller, report)

    def _charge(self, day: date, caller: Caller, run: Run | None) -> None:
        """Add what ``run`` used; one that never began counts nowhere."""
        began = run is not None and run.began is not None
        cpu_seconds = _cpu_seconds(run) if run and began else 0.0
        self._usage.note(day, caller, executions=began - self._quota.is_set, cpu_seconds=cpu_seconds)

    def _start(self, execution: Execution, origin: Origin, cell: Cell | None) -> Run:
        finish = partial(self._finish, execution, origin, cell)
        if cell is None:
            return self._node.submit(execution, origin.caller, finish)
        cell.session.check()
        cell.session.check_queue()
        run = self._node.submit(execution, origin.caller, finish, cell.turn)
        cell.session.follow(run)
        return run

    async def _finish(self, execution: Execution, origin: Origin, cell: Cell | None, outcome: Outcome) -> Outcome:
        if cell:
            outcome = replace(outcome, session=cell.session.state())
        if not outcome.ending.files:
            return outcome
        inline_bytes = self._max_inline if execution.inline_bytes is None else execution.inline_bytes
        return await self._artifacts.keep(outcome, origin.caller.key, Inlining(inline_bytes, origin.room))

    def _find(self, execution_id: str, owner: str) -> _Followed | None:
        followed = self._live.get(execution_id)
        return followed if followed and followed.origin.caller.key == owner else None

    def _ended_progress(self, run: Run, since: int) -> Progress:
        return _kept_progress(run.id, _kept_outcome(run, self._languages), since, self._max_chars)

    async def _stored_progress(self, execution_id: str, owner: str, since: int) -> Progress:
        kept = self._pending.find(execution_id, owner) or await self._outcomes.find(execution_id, owner)
        if kept:
            return _kept_progress(execution_id, kept, since, self._max_chars)
        entry = await self._history.find(execution_id, owner)
        if entry is None:
            raise _unknown(execution_id)
        if not entry.ended:
            return Progress(execution_id, LOST, since, problem=_LOST)
        self._pending.check_not_lost(execution_id)
        raise OutcomeGone(
            f"the execution has ended ({entry.status}), and its outcome is not kept: that of a call without "
            "`wait_seconds` goes to its caller alone, others are kept for a time (see CODEX_OUTCOME_SECONDS)"
        )

    def _now(self, followed: _Followed) -> ExecutionEntry:
        status = followed.entry.status if followed.run.ended else RUNNING if followed.run.began else QUEUED
        return followed.entry.model_copy(update={"status": status})

    def _end(self, run: Run) -> None:
        followed = self._live.pop(run.id)
        followed.entry = _ended_entry(followed.entry, run, keep_output=self._keep_code)
        self._history.note(followed.origin.caller.key, followed.entry)
        self._charge(followed.day, followed.origin.caller, run)
        if followed.entry.background:
            self._pending.add(run.id, followed.origin.caller.key, _kept_outcome(run, self._languages))


def _kept_outcome(run: Run, languages: Languages) -> KeptOutcome:
    pieces, last = read_pieces(run.events())
    result = run.result
    if isinstance(result, Outcome):
        reason = explain(result)
        return KeptOutcome(
            status=result.status.value,
            response=build_response(result, reason),
            reason=reason,
            hint=hint_for(run.execution, result, languages),
            links=links_of(result),
            pieces=tuple(pieces),
            last=last,
        )
    problem = KeptProblem(slug=result.slug, detail=result.detail) if isinstance(result, CodexError) else _FAILED
    status = _status_without_outcome(run, result)
    return KeptOutcome(status=status, problem=problem, pieces=tuple(pieces), last=last)


def _new_entry(execution: Execution, origin: Origin, session_id: str | None, *, keep_code: bool) -> ExecutionEntry:
    code = execution.code.encode()
    return ExecutionEntry(
        execution_id=execution.id,
        status=QUEUED,
        language=execution.language,
        submitted_at=datetime.now(UTC),
        background=False,
        code_bytes=len(code),
        code_sha256=hashlib.sha256(code).hexdigest(),
        caller=origin.caller.name,
        user_agent=origin.user_agent,
        request_id=origin.request_id,
        session_id=session_id,
        code=execution.code if keep_code else None,
    )


def _kept_progress(execution_id: str, kept: KeptOutcome, since: int, max_chars: int) -> Progress:
    response = kept.since(since, max_chars)
    cursor = max(since, kept.last)
    if response is not None:
        return Progress(execution_id, response.status.value, cursor, response=response)
    texts = texts_of(piece for piece in kept.pieces if piece.id > since)
    stdout, stderr = texts[Stream.STDOUT], texts[Stream.STDERR]
    return Progress(execution_id, kept.status, cursor, stdout, stderr, problem=kept.problem)


def _unknown(execution_id: str) -> UnknownExecution:
    return UnknownExecution(
        f"no execution of yours has the id {execution_id[:80]!r}; GET /executions lists those that there are"
    )


def _cpu_seconds(run: Run) -> float:
    """CPU time of a run that began; wall time where it could not be measured, or nobody waited for its end."""
    result = run.result
    ending = result.ending if isinstance(result, Outcome) else run.ending_of_the_cancelled()
    return ending.wall_seconds if ending.cpu_seconds is None else ending.cpu_seconds


def _as_left(entry: ExecutionEntry) -> ExecutionEntry:
    """An entry that nothing follows any more: what it says to be running was lost with its server."""
    return entry if entry.ended else entry.model_copy(update={"status": LOST})


def _ended_entry(entry: ExecutionEntry, run: Run, *, keep_output: bool) -> ExecutionEntry:
    result = run.result
    if not isinstance(result, Outcome):
        return entry.model_copy(update={"status": _status_without_outcome(run, result)})
    ending = result.ending
    facts: dict[str, object] = {
        "status": result.status.value,
        "execution_time": round(ending.wall_seconds, 6),
        "cpu_seconds": None if ending.cpu_seconds is None else round(ending.cpu_seconds, 6),
        "exit_code": result.exit_code,
        "signal": result.signal,
        "stdout_bytes": result.stdout.total_bytes,
        "stderr_bytes": result.stderr.total_bytes,
    }
    if keep_output:
        facts |= {"stdout": result.stdout.text, "stderr": result.stderr.text}
    return entry.model_copy(update=facts)


def _status_without_outcome(run: Run, error: Exception) -> str:
    if run.abandoned or isinstance(error, Cancelled):
        return Status.CANCELLED.value
    return REFUSED if isinstance(error, Unavailable | SessionBusy | SessionEnded) else LOST
