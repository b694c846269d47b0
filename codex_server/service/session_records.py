"""What the store keeps of sessions: that they were there, and when and why they ended. Never what is in them."""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from codex_server.errors import StoreUnusable
from codex_server.execution.session import SessionEnd
from codex_server.store.base import Store, since_epoch

TABLE = "sessions"
KEPT_SECONDS = 86_400.0
"""How long it is known why a session ended; then its id is one like any other that there never was."""
_MOST_ROWS = 100_000
_MOST_BYTES = 64 * 2**20
_RESTARTED = "the server was restarted"
_OPEN = b"{}"
_log = logging.getLogger(__name__)


class SessionRecords:
    """Remembers sessions beyond their end, and beyond this process."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = since_epoch) -> None:
        self._store, self._clock = store, clock
        self._since = datetime.now(UTC)
        self._unwritten: dict[str, tuple[str, SessionEnd]] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def begin(self, session_id: str, owner: str, lifetime_seconds: float) -> None:
        """Once this returns, a restart cannot make anyone forget the session. Raises ``StoreUnusable``."""
        expires_at = self._clock() + lifetime_seconds + KEPT_SECONDS
        await self._store.put(TABLE, session_id, _OPEN, owner=owner, expires_at=expires_at)

    def end(self, session_id: str, owner: str, end: SessionEnd) -> None:
        """Remember how it ended; written a moment later."""
        self._unwritten[session_id] = owner, end
        task = asyncio.get_running_loop().create_task(self._write(session_id, owner, end))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def find(self, session_id: str, owner: str) -> SessionEnd | None:
        """How a session that is not open here ended; None for one that ``owner`` never had, or long ago."""
        if unwritten := self._unwritten.get(session_id):
            return unwritten[1] if unwritten[0] == owner else None
        record = await self._store.get(TABLE, session_id)
        if record is None or record.owner != owner:
            return None
        if record.value != _OPEN:
            return _decode(record.value)
        lost = SessionEnd(_RESTARTED, self._since)
        self.end(session_id, owner, lost)  # the next restart is not when it ended
        return lost

    async def close(self) -> None:
        """Write what waits, for the last time."""
        await asyncio.gather(*self._writing)

    async def _write(self, session_id: str, owner: str, end: SessionEnd) -> None:
        value = json.dumps({"reason": end.reason, "ended_at": end.ended_at.isoformat()}).encode()
        try:
            await self._store.put(TABLE, session_id, value, owner=owner, expires_at=self._clock() + KEPT_SECONDS)
            await self._store.trim(TABLE, max_rows=_MOST_ROWS, max_bytes=_MOST_BYTES)
        except StoreUnusable as error:  # whoever asks later hears that the server was restarted
            _log.error("the end of a session was not recorded", extra={"cause": error.detail})
        finally:
            self._unwritten.pop(session_id, None)


def _decode(value: bytes) -> SessionEnd:
    fields = json.loads(value)
    return SessionEnd(fields["reason"], datetime.fromisoformat(fields["ended_at"]))
