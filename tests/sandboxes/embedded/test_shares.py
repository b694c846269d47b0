"""What the kernel counts by user is shared out so that one guest leaves the others, and the account, their part."""

import resource
from pathlib import Path

import pytest

from codex_server.sandboxes.embedded import shares
from codex_server.sandboxes.embedded.guestids import GuestIds
from codex_server.sandboxes.embedded.shares import shares_of

pytestmark = pytest.mark.unprivileged

OWN_IDS = GuestIds((0, 70_000, 20_000), (0, 70_000, 20_000), map_tool=False)
ONE_ID = GuestIds((1000, 1000, 1), (1000, 1000, 1), map_tool=False)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    (tmp_path / "max_inotify_instances").write_text("128\n")
    (tmp_path / "max_inotify_watches").write_text("100000\n")
    monkeypatch.setattr(shares, "_SYSCTLS", tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (10_000, 20_000))
    return tmp_path


@pytest.mark.parametrize(
    ("ids", "slots", "own_account", "instances", "signals"),
    [
        (OWN_IDS, 32, False, 4, 312),
        (OWN_IDS, 32, True, 2, 156),
        (OWN_IDS, 4, False, 32, 1024),
        (OWN_IDS, 1000, True, 2, 5),
        (ONE_ID, 32, True, 64, 5000),
        (ONE_ID, 2, True, 64, 2048),
    ],
)
def test_all_guests_together_take_no_more_than_the_host_has(
    host: Path, ids: GuestIds, slots: int, own_account: bool, instances: int, signals: int
) -> None:
    found = shares_of(ids, slots, own_account=own_account)
    assert (found.user_limits["max_inotify_instances"], found.pending_signals) == (instances, signals)
    assert found.user_limits["max_user_namespaces"] == 0


def test_what_this_kernel_does_not_count_is_left_out(host: Path) -> None:
    (host / "max_inotify_watches").unlink()
    assert set(shares_of(OWN_IDS, 4, own_account=True).user_limits) == {"max_user_namespaces", "max_inotify_instances"}


def test_without_a_limit_of_the_hosts_signals_are_bounded_all_the_same(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (resource.RLIM_INFINITY,) * 2)
    assert shares_of(OWN_IDS, 4, own_account=True).pending_signals == 1024
