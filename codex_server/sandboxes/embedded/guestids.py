"""Which host ids guests run under: never the server's own where it can be avoided, and never host root."""

import errno
import os
import pwd
import re
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from codex_server.interpreters import SYSTEM_PATH
from codex_server.sandboxes.embedded.rootfs import FIRST_SLOT_ID, SINGLE_ID

_SLOT_IDS = 16_384
"""The first ids of the range belong to namespaces: their zygote (the first) and slots. Blocks begin above them."""
_BLOCK = 2048
"""Ids in one block: more than any server has slots."""
_TOOL_FOLDERS = SYSTEM_PATH
_ALL_IDS = 2**32 - 1
_CAP_KILL, _CAP_SETUID, _CAP_SYS_ADMIN = 5, 7, 21
_NEEDED_RIGHTS = 1 << _CAP_KILL | 1 << _CAP_SETUID | 1 << _CAP_SYS_ADMIN
"""To make a user namespace in another's name, and to end what is in it."""


@dataclass(frozen=True, slots=True)
class GuestIds:
    """The map of ids inside to host ids: (first inside, first on the host, how many)."""

    uid_map: tuple[int, int, int]
    gid_map: tuple[int, int, int]
    map_tool: bool
    """Whether ``newuidmap`` writes it (the server may not)."""

    @property
    def per_slot(self) -> bool:
        """Whether each slot has an id of its own."""
        return self.uid_map[2] > 1

    @property
    def zygote(self) -> int:
        """The zygote's id inside."""
        return self.uid_map[0]

    def of_slot(self, number: int) -> int:
        """The id, inside, of the worker in slot ``number``."""
        return FIRST_SLOT_ID + number if self.per_slot else SINGLE_ID

    def of_workspace(self, number: int, slots: int) -> int:
        """The id, inside, that all sessions in one of the operator's folders have: beyond those of the ``slots``."""
        return self.of_slot(slots + number)


def owner_of_namespaces(ids: GuestIds) -> int | None:
    """The host id that is to own the zygotes' user namespaces, so that what guests use is charged to nobody else.

    None where this process may not choose: only root of the host, with its rights, can become another id for it.
    """
    first, inside, count = map(int, Path("/proc/self/uid_map").read_text(encoding="ascii").split()[:3])
    of_the_host = (first, inside, count) == (0, 0, _ALL_IDS)
    rights = re.search(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    may_all = rights is not None and int(rights[1], 16) & _NEEDED_RIGHTS == _NEEDED_RIGHTS
    return ids.uid_map[1] if os.geteuid() == 0 and of_the_host and may_all else None


def choose_guest_ids(wanted: str, slots: int) -> GuestIds:
    """As root: the range ``wanted`` (``first:count``); else the account's range of subordinate ids; else its own id."""
    if os.geteuid() == 0:
        first, count = map(int, wanted.split(":"))
        return GuestIds((0, first, count), (0, first, count), map_tool=False)
    needed = FIRST_SLOT_ID + slots
    uids, gids = _subordinate("/etc/subuid", needed), _subordinate("/etc/subgid", needed)
    tools = all(shutil.which(tool, path=_TOOL_FOLDERS) for tool in ("newuidmap", "newgidmap"))
    if uids and gids and tools:
        return GuestIds((0, *uids), (0, *gids), map_tool=True)
    return _own_id()


def claim_host_ids(wanted: str, slots: int) -> tuple[GuestIds, socket.socket | None]:
    """Ids for guests without a user namespace, and a lock on them that lasts until it is closed.

    As root: a block of ``wanted`` with an id for each slot; clearing up there kills by uid, so no two servers may have
    the same block. Else the account's own id. Raises ``OSError`` when every block is taken.
    """
    if os.geteuid() != 0:
        return _own_id(), None
    first, count = map(int, wanted.split(":"))
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    for start in range(first + _SLOT_IDS, first + count - _BLOCK + 1, _BLOCK):
        try:
            lock.bind(f"\0codex-server-guest-ids-{start}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return GuestIds((0, start, slots), (0, start, slots), map_tool=False), lock
    lock.close()
    raise OSError(errno.EADDRINUSE, "every block of CODEX_GUEST_IDS is taken by another server")


def _own_id() -> GuestIds:
    return GuestIds((SINGLE_ID, os.geteuid(), 1), (SINGLE_ID, os.getegid(), 1), map_tool=False)


def _subordinate(file: str, needed: int) -> tuple[int, int] | None:
    """The account's first range in /etc/subuid or /etc/subgid that holds ``needed`` ids."""
    try:
        names = {str(os.geteuid()), pwd.getpwuid(os.geteuid()).pw_name}
        rows = [line.split(":") for line in Path(file).read_text(encoding="utf-8").splitlines()]
    except (OSError, KeyError):
        return None
    ranges = ((int(row[1]), int(row[2])) for row in rows if len(row) == 3 and row[0] in names)
    return next(((first, count) for first, count in ranges if count >= needed), None)
