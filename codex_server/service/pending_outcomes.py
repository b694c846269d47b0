"""Outcomes on their way into the store: found meanwhile, few at a time, and not for long where it cannot take them."""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from dataclasses import dataclass

from codex_server.errors import Busy, CodexError, OutcomeGone
from codex_server.service.history import History
from codex_server.service.outcomes import KeptOutcome, Outcomes
from codex_server.units import format_seconds

MOST = 64
"""Outcomes that may wait at once; each can have the output and the files of a whole response."""
_TRIES, _TRY_AGAIN_SECONDS = 6, 10.0
"""So a caller that waits for an outcome has a minute to fetch one that cannot be stored."""
_CLOSE_SECONDS = 10.0
_MOST_LOST = 1000
_NOTE = (
    f"This outcome cannot be stored at the moment, and may be gone in {format_seconds(_TRIES * _TRY_AGAIN_SECONDS)}: "
    "save it now. Whoever runs the server finds the cause in its log."
)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pending:
    owner: str
    outcome: KeptOutcome
    storing: asyncio.Task[None] | None = None


class PendingOutcomes:
    """Stores each outcome that it is given. One that the store refuses is tried again for a minute, then given up."""

    def __init__(self, outcomes: Outcomes, history: History) -> None:
        self._outcomes, self._history = outcomes, history
        self._pending: dict[str, _Pending] = {}
        self._lost: OrderedDict[str, None] = OrderedDict()
        self._closing = asyncio.Event()

    def check_room(self) -> None:
        """Raise ``Busy`` while so many wait that no other may come."""
        if len(self._pending) >= MOST:
            seconds = round(_TRY_AGAIN_SECONDS)
            raise Busy(
                f"{MOST} outcomes wait to be stored, so no other program can run in the background; nothing was run, "
                f"try again in {seconds} s, or leave `wait_seconds` out",
                retry_after=seconds,
            )

    def add(self, execution_id: str, owner: str, outcome: KeptOutcome) -> None:
        """Store it, and have it found meanwhile."""
        pending = self._pending[execution_id] = _Pending(owner, outcome)
        pending.storing = asyncio.get_running_loop().create_task(self._store(execution_id, pending))

    def find(self, execution_id: str, owner: str) -> KeptOutcome | None:
        """The outcome of that execution of ``owner``'s, while it is here."""
        pending = self._pending.get(execution_id)
        return pending.outcome if pending and pending.owner == owner else None

    def check_not_lost(self, execution_id: str) -> None:
        """Raise ``OutcomeGone`` for an outcome that could not be stored; the caller must be its owner."""
        if execution_id in self._lost:
            raise OutcomeGone(
                "the execution has ended, and its outcome could not be stored; whoever runs the server finds the cause "
                "in its log. Submit it again if running the program twice does no harm"
            )

    async def close(self) -> None:
        """Try once more to store what is here; what cannot be stored by now never is."""
        self._closing.set()
        storing = [each.storing for each in self._pending.values() if each.storing]
        if storing:
            _, late = await asyncio.wait(storing, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _store(self, execution_id: str, pending: _Pending) -> None:
        try:
            whole = pending.outcome
            for _ in range(_TRIES):
                if await self._try(execution_id, pending.owner, whole):
                    return
                if self._closing.is_set():
                    break
                pending.outcome = whole.model_copy(update={"hint": f"{whole.hint}\n{_NOTE}" if whole.hint else _NOTE})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TRY_AGAIN_SECONDS):
                        await self._closing.wait()
            self._give_up(execution_id)
        finally:
            del self._pending[execution_id]

    async def _try(self, execution_id: str, owner: str, outcome: KeptOutcome) -> bool:
        try:
            await self._outcomes.put(execution_id, owner, outcome)
            await self._history.flush()
        except CodexError as error:
            _log.error("the outcome of %s cannot be stored", execution_id, extra={"cause": error.detail})
            return False
        return True

    def _give_up(self, execution_id: str) -> None:
        _log.error("the outcome of %s is lost: it could not be stored", execution_id)
        self._lost[execution_id] = None
        while len(self._lost) > _MOST_LOST:
            self._lost.popitem(last=False)
