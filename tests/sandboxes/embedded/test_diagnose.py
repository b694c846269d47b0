"""Each way in which a host refuses a level is reported with its remedy."""

import errno
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from codex_server.sandboxes.embedded import diagnose
from codex_server.sandboxes.embedded.diagnose import HostFacts, closed_to_others, explain
from codex_server.sandboxes.embedded.zygote_process import LaunchFailed

pytestmark = pytest.mark.unprivileged

PLAIN = HostFacts(seccomp_filtered=False, userns_clone=None, apparmor_restricts=False)
CONTAINER = replace(PLAIN, seccomp_filtered=True)
DEBIAN = replace(PLAIN, userns_clone="0")
UBUNTU = replace(PLAIN, userns_clone="1", apparmor_restricts=True)


@pytest.mark.parametrize(
    ("step", "number", "facts", "remedy"),
    [
        ("namespaces", errno.ENOSPC, PLAIN, "sysctl user.max_user_namespaces=15000"),
        ("namespaces", errno.ENOSPC, CONTAINER, "sysctl user.max_user_namespaces=15000"),
        ("mounts", errno.ENOSYS, PLAIN, "Linux 5.12 or newer"),
        ("namespaces", errno.EPERM, CONTAINER, "--security-opt seccomp="),
        ("namespaces", errno.EPERM, DEBIAN, "sysctl kernel.unprivileged_userns_clone=1"),
        ("namespaces", errno.EPERM, UBUNTU, "kernel.apparmor_restrict_unprivileged_userns=0"),
        ("namespaces", errno.EACCES, UBUNTU, "kernel.apparmor_restrict_unprivileged_userns=0"),
        ("namespaces", errno.EPERM, PLAIN, "a security module forbids them"),
        ("proc", errno.EPERM, CONTAINER, "/proc is masked here"),
        ("proc", errno.EPERM, CONTAINER, "systempaths=unconfined"),
        ("mounts", errno.EACCES, UBUNTU, "an AppArmor profile with `userns`"),
        ("pivot", errno.EPERM, CONTAINER, "--security-opt seccomp="),
        ("tmpfs", errno.EPERM, PLAIN, "or run the server outside a container"),
        ("ids", errno.EPERM, UBUNTU, "an AppArmor profile with `userns`"),
        ("id-maps", errno.EPERM, PLAIN, "set CODEX_GUEST_IDS"),
        ("id-maps", None, PLAIN, "set CODEX_GUEST_IDS"),
        ("mounts", errno.EIO, PLAIN, "codex-server doctor"),
        ("worker", None, PLAIN, "codex-server doctor"),
        (None, None, PLAIN, "codex-server doctor"),
    ],
)
def test_each_failure_is_reported_with_its_remedy(step, number, facts, remedy):
    sentence = explain(LaunchFailed(step, number, "what the kernel said"), facts)
    cause, found, advice = sentence.partition(". To mend it: ")
    assert found
    assert cause == f"namespaces: step {step or 'start'!r} failed (what the kernel said)"
    assert remedy in advice


def test_a_container_is_not_advised_to_change_apparmor_where_seccomp_forbids_it():
    facts = replace(UBUNTU, seccomp_filtered=True)
    assert "AppArmor" not in explain(LaunchFailed("namespaces", errno.EPERM, "no"), facts)


def test_a_sysctl_is_read_without_its_line_end_and_a_missing_one_is_none():
    limit = diagnose.read_sysctl("kernel/pid_max")
    assert limit is not None
    assert limit.isdigit()
    assert diagnose.read_sysctl("kernel/there_is_no_such_setting") is None


@pytest.mark.parametrize(("answer", "restricts"), [("1", True), ("0", False), (None, False)])
def test_the_facts_are_this_hosts_own(monkeypatch, answer, restricts):
    monkeypatch.setattr(diagnose, "read_sysctl", lambda name: answer)
    facts = diagnose.read_host_facts()
    assert (facts.userns_clone, facts.apparmor_restricts) == (answer, restricts)


def test_the_first_closed_folder_on_the_way_is_named():
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # where every step before it is open
        outer = Path(name)
        inner = outer / "inner"
        for folder in (inner, outer / "beside"):
            folder.mkdir()
            folder.chmod(0o755)
        assert closed_to_others([outer / "beside", inner]) == outer
        outer.chmod(0o711)
        assert closed_to_others([outer / "beside", inner]) is None
        inner.chmod(0o750)
        assert closed_to_others([outer / "beside", inner]) == inner


def test_no_folder_at_all_is_not_closed():
    assert closed_to_others([]) is None
