"""What a repeated request gets: the answer of the first one, kept in memory for a day.

A key belongs to one caller. Only answers below 500 are kept; a request that failed, or whose caller left, frees its
key.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from codex_server.errors import IdempotencyInFlight, IdempotencyMismatch

KEPT_SECONDS = 24 * 3600.0
MAX_ANSWERS = 10_000
MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it was sent."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class _Kept:
    fingerprint: bytes
    until: float
    answer: StoredAnswer


class IdempotencyStore:
    """The answers by caller and key. The oldest give way when there are too many, or they grow too large together."""

    def __init__(
        self,
        *,
        seconds: float = KEPT_SECONDS,
        max_answers: int = MAX_ANSWERS,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._max_answers, self._max_bytes, self._clock = seconds, max_answers, max_bytes, clock
        self._running: dict[tuple[str, str], bytes] = {}
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._bytes = 0

    def begin(self, caller: str, key: str, fingerprint: bytes) -> StoredAnswer | None:
        """The kept answer; or None: the caller now runs the request and must call ``finish`` or ``abandon``.

        Raises ``IdempotencyMismatch`` when the key was used with another body, ``IdempotencyInFlight`` when its first
        request still runs.
        """
        self._forget_old()
        place = (caller, key)
        entry = self._kept.get(place)
        known = entry.fingerprint if entry else self._running.get(place)
        if known is None:
            self._running[place] = fingerprint
            return None
        if known != fingerprint:
            raise IdempotencyMismatch(
                "this Idempotency-Key was used with another body; use a new key for a new request"
            )
        if entry is None:
            raise IdempotencyInFlight(
                "the first request with this Idempotency-Key has not ended; repeat this one in a moment for its answer"
            )
        return entry.answer

    def finish(self, caller: str, key: str, answer: StoredAnswer) -> None:
        """Keep the answer of the request that ``begin`` let run; one of 500 or above frees the key instead."""
        fingerprint = self._running.pop((caller, key))
        if answer.status >= 500 or len(answer.body) > self._max_bytes:
            return
        self._kept[caller, key] = _Kept(fingerprint, self._clock() + self._seconds, answer)
        self._bytes += len(answer.body)
        while len(self._kept) > self._max_answers or self._bytes > self._max_bytes:
            self._drop_oldest()

    def abandon(self, caller: str, key: str) -> None:
        """Free the key of a request that ended without an answer."""
        self._running.pop((caller, key), None)

    def _forget_old(self) -> None:
        now = self._clock()
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, entry = self._kept.popitem(last=False)
        self._bytes -= len(entry.answer.body)
