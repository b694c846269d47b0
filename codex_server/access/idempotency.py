"""What a repeated request gets: the response of the first one, kept in the store for a day.

A key belongs to one caller. Only responses below 500 are kept; a request that failed, or whose caller left, frees its
key. A key whose request was running when the server was killed stays used: nobody can know what became of it.
"""

import logging
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from codex_server.errors import IdempotencyInFlight, IdempotencyLost, IdempotencyMismatch, StoreUnusable
from codex_server.store.base import Record, Store, since_epoch

KEPT_SECONDS = 24 * 3600.0
MAX_ANSWERS = 10_000
MAX_BYTES = 64 * 2**20
TABLE = "idempotency"
_HEAD = struct.Struct(">H32s")
"""The status, 0 for a request that has not ended; the fingerprint. The body follows, or a random mark."""
_log = logging.getLogger("codex_server.idempotency")


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A response as it was sent."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key's first request: what was asked, and what it got; None for what is not known."""

    fingerprint: bytes
    answer: StoredAnswer | None
    value: bytes

    @classmethod
    def begun(cls, fingerprint: bytes) -> Self:
        """INVARIANT: no two requests share a value, so that each removes its own entry only."""
        return cls(fingerprint, None, _HEAD.pack(0, fingerprint) + secrets.token_bytes(16))

    @classmethod
    def ended(cls, fingerprint: bytes, answer: StoredAnswer) -> Self:
        return cls(fingerprint, answer, _HEAD.pack(answer.status, fingerprint) + answer.body)

    @classmethod
    def read(cls, record: Record) -> Self:
        status, fingerprint = _HEAD.unpack_from(record.value)
        body = record.value[_HEAD.size :]
        return cls(fingerprint, StoredAnswer(status, body) if status else None, record.value)


class IdempotencyStore:
    """The responses by caller and key. The oldest give way when there are too many, or they grow too large together.

    A fingerprint has 32 bytes. Each method raises ``StoreUnusable`` unless it says otherwise.
    """

    def __init__(
        self,
        store: Store,
        *,
        seconds: float = KEPT_SECONDS,
        max_answers: int = MAX_ANSWERS,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = since_epoch,
    ) -> None:
        self._store, self._seconds, self._clock = store, seconds, clock
        self._max_answers, self._max_bytes = max_answers, max_bytes
        self._running: dict[str, _Entry] = {}

    async def begin(self, caller: str, key: str, fingerprint: bytes) -> StoredAnswer | None:
        """The kept response; or None: the caller now runs the request and must call ``finish`` or ``abandon``.

        Raises ``IdempotencyMismatch`` when the key was used with another body, ``IdempotencyInFlight`` when its first
        request still runs, ``IdempotencyLost`` when nobody knows what became of it.
        """
        place = _place(caller, key)
        record = await self._store.get(TABLE, place)
        kept, running = _Entry.read(record) if record else None, self._running.get(place)
        # A request that is about to end has its response in the store, and is still known to run.
        entry = kept if kept and kept.answer else running or kept
        if entry is not None:
            return _answer_of(entry, fingerprint, runs=running is not None)
        if await self._claim(place, _Entry.begun(fingerprint)):
            return None
        return await self.begin(caller, key, fingerprint)  # another process was first

    async def finish(self, caller: str, key: str, answer: StoredAnswer) -> None:
        """Keep the response of the request that ``begin`` let run; one of 500 or above frees the key instead.

        Never raises ``StoreUnusable``: the program ran, and its response is worth more than its repetition. The log
        has the cause, and a repetition gets ``IdempotencyLost``.
        """
        place = _place(caller, key)
        try:
            if answer.status >= 500 or len(answer.body) > self._max_bytes:
                await self._free(place)
            else:
                await self._keep(place, _Entry.ended(self._running[place].fingerprint, answer))
        except StoreUnusable as error:
            _log.error("a response was not kept for its Idempotency-Key", extra={"cause": error.detail})
        finally:
            self._running.pop(place, None)

    async def abandon(self, caller: str, key: str) -> None:
        """Free the key of a request that ended without a response; after ``finish`` there is nothing to free."""
        await self._free(_place(caller, key))

    async def _claim(self, place: str, entry: _Entry) -> bool:
        """Whether the key is this request's now. INVARIANT: a caller who leaves meanwhile leaves no entry."""
        self._running[place] = entry
        end = self._clock() + self._seconds
        try:
            claimed = await self._store.put(TABLE, place, entry.value, expires_at=end, only_if_absent=True)
        except BaseException:
            await self._free(place)
            raise
        if not claimed:
            del self._running[place]
        return claimed

    async def _free(self, place: str) -> None:
        # Out of the memory first: who asks after this waits in the store's line behind the deletion.
        if entry := self._running.pop(place, None):
            await self._store.delete(TABLE, place, expected=entry.value)

    async def _keep(self, place: str, entry: _Entry) -> None:
        await self._store.put(TABLE, place, entry.value, expires_at=self._clock() + self._seconds)
        await self._store.trim(TABLE, max_rows=self._max_answers, max_bytes=self._max_bytes)


def _answer_of(entry: _Entry, fingerprint: bytes, *, runs: bool) -> StoredAnswer:
    if entry.fingerprint != fingerprint:
        raise IdempotencyMismatch("this Idempotency-Key was used with another body; use a new key for a new request")
    if entry.answer:
        return entry.answer
    if runs:
        raise IdempotencyInFlight(
            "the first request with this Idempotency-Key has not ended; repeat this one in a moment for its answer"
        )
    raise IdempotencyLost(
        "the first request with this Idempotency-Key began, and its result is lost: the server was killed meanwhile, "
        "or could not keep it. Whether the program ran is unknown; if running it twice does no harm, send the request "
        "with a new key"
    )


def _place(caller: str, key: str) -> str:
    """INVARIANT: no two pairs share a place: a key has no spaces."""
    return f"{caller} {key}"
