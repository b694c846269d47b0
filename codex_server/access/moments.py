"""The memory of the rate limiter: the moments at which each caller was served, by the monotonic clock.

It takes the place of the memory storage of ``limits`` under a scheme of its own. That one reads the wall clock, so a
clock that is set back refuses callers for as long; and it starts a thread for each sweep, up to a hundred a second.
"""

from collections import OrderedDict, deque
from time import monotonic

from limits.storage import MovingWindowSupport, Storage

SCHEME = "monotonic"
MAX_KEYS = 100_000
"""Callers that are remembered for one length of window; beyond it the one that was served longest ago is forgotten."""

_Log = deque[float]
_Logs = OrderedDict[str, _Log]


class MomentStorage(Storage, MovingWindowSupport):
    """Moving windows in the memory of this process; a moment that left its window is dropped when somebody asks next.

    It starts no thread and takes no lock: it belongs to the event loop's thread.
    """

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012 - as `limits` declares it

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, *, max_keys: int = MAX_KEYS) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._max_keys = max_keys
        # By length of window. Within one, whoever was served longest ago stands first: what ran out is at the front.
        self._logs: dict[int, _Logs] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        """What a failure of the memory would be; there is none."""
        return MemoryError

    def now(self) -> float:
        """Seconds on the clock that every moment here is told by."""
        return monotonic()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Note ``amount`` moments, unless the window would then hold more than ``limit``."""
        if self.get_moving_window(key, limit, expiry)[1] + amount > limit:
            return False
        self.incr(key, expiry, amount)
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """The oldest moment in the window, or now, and how many it holds."""
        log = self._log(key, expiry)
        return (log[0], len(log)) if log else (self.now(), 0)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Note ``amount`` moments, and tell how many the window holds."""
        self._forget_old(expiry)
        logs = self._logs.setdefault(expiry, _Logs())
        log = logs.setdefault(key, _Log())
        logs.move_to_end(key)
        log.extend([self.now()] * amount)
        if len(logs) > self._max_keys:
            logs.popitem(last=False)
        return len(self._log(key, expiry))

    def get(self, key: str) -> int:
        """How many moments the key's window holds."""
        return max((len(self._log(key, expiry)) for expiry in self._logs), default=0)

    def get_expiry(self, key: str) -> float:
        """When the newest moment of ``key`` leaves its window."""
        return max((log[-1] + expiry for expiry in self._logs if (log := self._log(key, expiry))), default=self.now())

    def clear(self, key: str) -> None:
        """Forget ``key``."""
        for logs in self._logs.values():
            logs.pop(key, None)

    def check(self) -> bool:
        """Whether it can be used: always."""
        return True

    def reset(self) -> int:
        """Forget everybody, and tell how many that were."""
        count = sum(map(len, self._logs.values()))
        self._logs.clear()
        return count

    def _log(self, key: str, expiry: int) -> _Log:
        """The moments that are in the window now, the oldest first."""
        log = self._logs.get(expiry, _Logs()).get(key, _Log())
        gone = self.now() - expiry
        while log and log[0] <= gone:
            log.popleft()
        return log

    def _forget_old(self, expiry: int) -> None:
        logs = self._logs.get(expiry, _Logs())
        gone = self.now() - expiry
        while logs:
            key, log = next(iter(logs.items()))
            if log and log[-1] > gone:
                return
            del logs[key]
