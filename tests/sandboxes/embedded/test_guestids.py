"""Guests' ids: never the server's own where it can be helped, never host root, never two servers' at once."""

import errno
import os
import pwd

import pytest

from codex_server.errors import SettingsInvalid
from codex_server.sandboxes.embedded import guestids
from codex_server.sandboxes.embedded.guestids import GuestIds, choose_guest_ids, claim_host_ids
from codex_server.sandboxes.embedded.rootfs import FIRST_SLOT_ID, SINGLE_ID
from codex_server.settings import load_settings

pytestmark = pytest.mark.unprivileged

UID = 4321
ACCOUNT = pwd.struct_passwd(("someone", "x", UID, 8765, "", "/", "/bin/sh"))
OWN_ID = GuestIds((SINGLE_ID, UID, 1), (SINGLE_ID, 8765, 1), map_tool=False)
NAMESPACE_IDS = 16_384
FIRST = 2_000_000_000 + os.getpid() % 10_000 * 2048 * 16
"""Blocks that no other run of these tests claims."""


@pytest.fixture
def root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def account(monkeypatch, tmp_path):
    """An ordinary account with the id tools; a call gives the lines of its /etc/subuid and /etc/subgid."""
    monkeypatch.setattr(os, "geteuid", lambda: UID)
    monkeypatch.setattr(os, "getegid", lambda: 8765)
    monkeypatch.setattr(pwd, "getpwuid", {UID: ACCOUNT}.__getitem__)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("newuidmap", "newgidmap"):
        (tools / tool).touch(mode=0o755)
    monkeypatch.setattr(guestids, "_TOOL_FOLDERS", str(tools))
    real = guestids._subordinate
    monkeypatch.setattr(guestids, "_subordinate", lambda file, needed: real(str(tmp_path / file[5:]), needed))

    def give(uids: str, gids: str) -> None:
        (tmp_path / "subuid").write_text(uids)
        (tmp_path / "subgid").write_text(gids)

    give.tools = tools
    return give


def test_root_takes_the_range_that_was_set(root):
    ids = choose_guest_ids("1048576:65536", 20)
    assert ids == GuestIds((0, 1048576, 65536), (0, 1048576, 65536), map_tool=False)
    assert ids.per_slot
    assert ids.zygote == 0
    assert (ids.of_slot(0), ids.of_slot(7)) == (FIRST_SLOT_ID, FIRST_SLOT_ID + 7)


def test_an_account_with_subordinate_ranges_and_the_tools_uses_them(account):
    account("other:1:65536\nsomeone:200000:65536\n", f"{UID}:300000:70000\n")
    ids = choose_guest_ids("1048576:65536", 20)
    assert ids == GuestIds((0, 200000, 65536), (0, 300000, 70000), map_tool=True)
    assert ids.per_slot


def test_the_first_range_that_is_large_enough_is_used(account):
    account("someone:100:999\nsomeone:200000:10020\n", "someone:100:10019\nsomeone:500000:10021\n")
    assert choose_guest_ids("", 20) == GuestIds((0, 200000, 10020), (0, 500000, 10021), map_tool=True)
    assert choose_guest_ids("", 21) == OWN_ID


@pytest.mark.parametrize(
    ("uids", "gids"),
    [
        ("", "someone:300000:65536\n"),
        ("someone:200000:65536\n", ""),
        ("someone:200000:10019\n", "someone:300000:65536\n"),
        ("somebody:200000:65536\n", "someone:300000:65536\n"),
        ("# someone\nsomeone:200000\n", "someone:300000:65536\n"),
    ],
)
def test_without_ranges_for_uids_and_gids_the_account_has_its_own_id_only(account, uids, gids):
    account(uids, gids)
    ids = choose_guest_ids("1048576:65536", 20)
    assert ids == OWN_ID
    assert not ids.per_slot
    assert ids.zygote == ids.of_slot(0) == ids.of_slot(9) == SINGLE_ID


def test_without_the_files_the_account_has_its_own_id_only(account):
    assert choose_guest_ids("1048576:65536", 20) == OWN_ID


def test_without_one_of_the_tools_the_account_has_its_own_id_only(account):
    account("someone:200000:65536\n", "someone:300000:65536\n")
    (account.tools / "newgidmap").unlink()
    assert choose_guest_ids("1048576:65536", 20) == OWN_ID


def test_an_account_without_a_name_has_its_own_id_only(account, monkeypatch):
    account("someone:200000:65536\n", "someone:300000:65536\n")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert choose_guest_ids("1048576:65536", 20) == OWN_ID


def test_two_claims_never_overlap_and_a_freed_block_is_given_again(root):
    wanted = f"{FIRST}:{NAMESPACE_IDS + 3 * 2048 + 2047}"  # the rest is no whole block
    claims = [claim_host_ids(wanted, 2048) for _ in range(3)]
    try:
        ranges = [range(ids.uid_map[1], ids.uid_map[1] + ids.uid_map[2]) for ids, _ in claims]
        assert len(set().union(*ranges)) == sum(map(len, ranges)) == 3 * 2048
        lowest = FIRST + NAMESPACE_IDS  # below are the ids in namespaces: killing by uid may not reach them
        assert all(block.start >= lowest and block.stop <= lowest + 3 * 2048 for block in ranges)
        assert FIRST_SLOT_ID + 2048 <= NAMESPACE_IDS
        with pytest.raises(OSError, match="every block of CODEX_GUEST_IDS is taken") as refused:
            claim_host_ids(wanted, 2048)
        assert refused.value.errno == errno.EADDRINUSE
        claims[1][1].close()
        claims[1] = claim_host_ids(wanted, 2048)
        assert claims[1][0].uid_map == (0, ranges[1].start, 2048) == claims[1][0].gid_map
    finally:
        for _, lock in claims:
            lock.close()


def test_a_refused_claim_leaves_no_descriptor(root):
    _, lock = claim_host_ids(f"{FIRST}:{NAMESPACE_IDS + 2048}", 5)
    with lock:
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match="taken"):
            claim_host_ids(f"{FIRST}:{NAMESPACE_IDS + 2048}", 5)
        assert os.listdir("/proc/self/fd") == before


def test_an_account_claims_its_own_id_and_needs_no_lock(account):
    assert claim_host_ids("1048576:65536", 20) == (OWN_ID, None)


@pytest.mark.parametrize("wanted", ["1048576:65536", "65536:65536", "1000000000:131072"])
def test_a_range_for_guests_is_accepted(wanted):
    assert load_settings({"guest_ids": wanted}).guest_ids == wanted


@pytest.mark.parametrize(
    "wanted",
    ["0:65536", "999:65536", "1048576:10", "4294901760:65536", "99999999999:65536", "1048576", "-5:65536", "a:b", ""],
)
def test_a_range_that_holds_the_systems_accounts_or_too_few_ids_is_refused(wanted):
    with pytest.raises(SettingsInvalid, match="guest_ids"):
        load_settings({"guest_ids": wanted})
