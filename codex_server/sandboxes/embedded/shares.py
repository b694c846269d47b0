"""What the kernel counts by user, shared out: each guest's part, and what the server's account keeps for itself.

A guest's use is charged to its own id, and besides to the id that made its user namespace: as root that is an id that
nobody else has, elsewhere the server's own account, which keeps half.
"""

import resource
from dataclasses import dataclass
from pathlib import Path

from codex_server.limits import MOST_PENDING_SIGNALS
from codex_server.sandboxes.embedded.guestids import GuestIds

_SYSCTLS = Path("/proc/sys/user")
_LEAST = {"max_inotify_instances": 2, "max_inotify_watches": 64}
"""The least that a guest is given of each: what `tail -f` beside one program that watches a folder needs.

A kernel allows a user 128 instances, and a server has places for more sandboxes than that, nearly all of them sessions
that stand still. So very many greedy guests can together use up what all of them may have.
"""


@dataclass(frozen=True, slots=True)
class Shares:
    """What each id inside may have. ``user_limits``: by the names of ``/proc/sys/user``."""

    user_limits: dict[str, int]
    pending_signals: int


def shares_of(ids: GuestIds, slots: int, *, own_account: bool) -> Shares:
    """The parts of ``slots`` guests; ``own_account``: what they use is charged to the server's account too.

    Where all guests have one id, one part is for all of them together.
    """
    guests = slots if ids.per_slot else 1
    kept = 2 if own_account else 1
    counted = {name: _limit(name) for name in _LEAST}
    # INVARIANT: no user namespace can be made inside, whatever the system call filter says.
    limits = {"max_user_namespaces": 0} | {
        name: max(_LEAST[name], limit // kept // guests) for name, limit in counted.items() if limit is not None
    }
    signals = resource.getrlimit(resource.RLIMIT_SIGPENDING)[0]
    share = MOST_PENDING_SIGNALS if signals == resource.RLIM_INFINITY else signals // kept // guests
    return Shares(limits, max(1, min(share, MOST_PENDING_SIGNALS * slots // guests)))


def _limit(name: str) -> int | None:
    """None where this kernel does not count it."""
    try:
        return int((_SYSCTLS / name).read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
