"""The memory that init may take to write for a session's guest."""

import os
from dataclasses import replace

import pytest

from codex_server.sandboxes.guest.landlock_boundary import LandlockBoundary
from codex_server.sandboxes.guest.procfs import resident_bytes
from codex_server.sandboxes.guest.session_bounds import INIT_BYTES, SessionBounds
from codex_server.sandboxes.guest.session_workspace import FilesRefused
from codex_server.sandboxes.protocol.launch import LandlockSetup
from codex_server.sandboxes.protocol.session import CellOrder
from tests.sandboxes.executions import SETUP

_MIB = 2**20
_ORDER = CellOrder(1, "python", 1, 0, 0, 1.0, 100 * _MIB, 0, 0, collect=True, open_stdin=False)


class Boundary:
    """Around ``pids``, whose files take 60 MiB."""

    def __init__(self, *pids):
        self.pids = pids

    def file_bytes(self):
        return 60 * _MIB

    def members(self):
        return iter(self.pids)


def bounds(*pids, **facts):
    return SessionBounds(SETUP, Boundary(*pids), None, **facts)


@pytest.mark.parametrize("given", ["files", "stdin"])
def test_what_fits_beside_the_files_is_written_and_a_byte_more_is_refused(given):
    left = 40 * _MIB - INIT_BYTES
    sizes = {"files": (left, 0), "stdin": (0, left)}[given]
    bounds().check_room(_ORDER, *sizes)
    with pytest.raises(FilesRefused, match=f"{left + 1} bytes are more than the {left}") as refused:
        bounds().check_room(_ORDER, *(size and size + 1 for size in sizes))
    assert refused.value.given == given


def test_the_memory_of_processes_is_not_free():
    used = resident_bytes(os.getpid(), shared_fairly=True)
    left = 2 * used
    order = replace(_ORDER, memory_bytes=60 * _MIB + INIT_BYTES + left)
    assert 0 < bounds(os.getpid()).room(order, left) <= left - used // 2


def test_nothing_is_refused_where_nothing_is_given():
    bounds().check_room(replace(_ORDER, memory_bytes=1), 0, 0)


def test_files_of_a_named_workspace_take_no_memory_and_the_input_does():
    bounds(on_disk=True).check_room(_ORDER, 2**40, 1)
    with pytest.raises(FilesRefused):
        bounds(on_disk=True).check_room(_ORDER, 2**40, 40 * _MIB)


def test_files_on_the_hosts_disk_take_no_memory():
    boundary = LandlockBoundary(LandlockSetup((), ()), 7, own_uid=True)
    assert SessionBounds(SETUP, boundary, None).room(_ORDER, 2**40) == 2**40
