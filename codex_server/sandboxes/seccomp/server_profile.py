"""What the server may ask of the kernel when it runs in a container itself: the second table to review.

A container's own filter lies over everything in it, the guests included, and can only be added to. So the server's
container may ask for what nobody inside is refused (``policy.BASE``), and beyond that for the few calls of ``GRANTS``,
with which the embedded backend builds sandboxes as an unprivileged user without capabilities. Guests lose these again:
their own filter, loaded before the first byte of their code, is the same as outside a container.

INVARIANT: a call stands in ``GRANTS`` only when code in ``guest/`` makes it; a test compares the two. None of them
needs a capability of the container: in the user namespace that the first of them makes, they act on that one alone.

``seccomp.json`` is this table in the form that container engines read; ``make docs`` writes it.
"""

from dataclasses import dataclass
from typing import Final

from codex_server.sandboxes.seccomp.policy import BASE


@dataclass(frozen=True, slots=True)
class Grant:
    """Calls that a guest is refused and its server needs."""

    title: str
    calls: tuple[str, ...]
    reason: str


GRANTS: Final = (
    Grant(
        "Namespaces",
        ("clone", "unshare", "setns"),
        "The launcher makes the outer namespaces with clone, the zygote and each slot their own with unshare, and a "
        "worker joins those of its slot with setns. (clone3 stays refused: nothing here needs what it adds.)",
    ),
    Grant(
        "Mounts",
        ("mount", "umount2", "pivot_root", "open_tree", "mount_setattr", "move_mount"),
        "The guest root is made of read-only copies of folders; a slot has its own /proc, workspace and /tmp.",
    ),
    Grant(
        "Confinement of guests",
        ("seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"),
        "Each guest gets a filter of its own, and at level «confined» a Landlock ruleset.",
    ),
    Grant(
        "Host name",
        ("sethostname",),
        "The guest side has a host name of its own, so that the container's is not shown.",
    ),
    Grant(
        "Limits of others",
        ("prlimit64",),
        "A slot's init sets the resource limits of its worker; a guest may only set its own.",
    ),
)


SERVER: Final = BASE.allowing("the server's container", [call for grant in GRANTS for call in grant.calls])
"""For the container that the server itself runs in. Never for a guest."""
