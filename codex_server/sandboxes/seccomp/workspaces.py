"""What a guest may not ask, beside its policy, where its workspace is a folder of the operator's: a second table."""

from errno import ENOSYS, EPERM
from typing import Final

from codex_server.sandboxes.seccomp.rules import Group, Match, Policy, Rule, Values

_SET_ID = 0o6000
_CREATING = 0o20_000_100
"""O_CREAT, and the bit of O_TMPFILE that no other flag has: without one of them the kernel reads no mode."""
_CREATES = (0o100, 0o20_000_000, _CREATING)
_REASON = (
    "No set-uid and set-gid bits: what is written stays on the host's disk, where whoever runs it would have the "
    "rights of the folder's owner."
)


def _without_set_id(call: str, mode: int, flags: int | None = None) -> Rule:
    where = Match(flags, _CREATING, _CREATES) if flags is not None else None
    return Rule(call, mode, _SET_ID, (0,), Values.ONLY, _REASON, EPERM, where)


NAMED_WORKSPACE: Final = Policy(
    "a folder of the operator's",
    (
        Group(
            "Opening by a structure",
            "Its mode lies in memory, where no filter reads it; programs fall back to openat.",
            ("openat2",),
            ENOSYS,
        ),
    ),
    (
        _without_set_id("chmod", 1),
        _without_set_id("fchmod", 1),
        _without_set_id("fchmodat", 2),
        _without_set_id("fchmodat2", 2),
        _without_set_id("creat", 1),
        _without_set_id("mknod", 1),
        _without_set_id("mknodat", 2),
        _without_set_id("open", 2, 1),
        _without_set_id("openat", 3, 2),
    ),
)
"""For a session in such a folder, beside the policy of its level."""
