"""The ids of a process."""

import os


def take_uid(uid: int) -> None:
    """Become ``uid`` for good, with no group but its own."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
