"""The profile for the server's own container: what guests may, what building sandboxes takes, and nothing more."""

import errno
import json
import re
from pathlib import Path

import pytest

from codex_server.sandboxes import guest
from codex_server.sandboxes.guest import kernel
from codex_server.sandboxes.seccomp import syscalls
from codex_server.sandboxes.seccomp.compiler import docker_profile
from codex_server.sandboxes.seccomp.policy import BASE, NAMESPACES
from codex_server.sandboxes.seccomp.server_profile import GRANTS, SERVER
from tests.sandboxes.seccomp.bpf import KNOWN

ROOT = Path(__file__).parents[3]
NOTHING = (0, 0, 0, 0, 0, 0)
GRANTED = {call for grant in GRANTS for call in grant.calls}
FOLDER = Path(next(iter(guest.__path__)))
CALLED = {
    "clone": r'number_of\("clone"\)',
    "unshare": r"_libc\.unshare\(",
    "setns": r"_libc\.setns\(",
    "mount": r"_libc\.mount\(",
    "umount2": r"_libc\.umount2\(",
    "sethostname": r"socket\.sethostname\(",
    "prlimit64": r"resource\.prlimit\(",
}
"""How the guest side's code makes a call; the others go by name through ``syscall``."""

NEVER = (
    "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp perf_event_open keyctl add_key request_key "
    "io_uring_setup io_uring_enter io_uring_register bpf userfaultfd init_module finit_module delete_module kexec_load "
    "kexec_file_load chroot open_tree_attr fsopen fsconfig fsmount fspick name_to_handle_at open_by_handle_at "
    "fanotify_init clock_settime adjtimex settimeofday setdomainname swapon swapoff quotactl acct reboot vhangup "
    "syslog memfd_secret modify_ldt iopl ioperm mbind move_pages migrate_pages"
)


def test_the_file_beside_compose_is_the_table():
    assert json.loads((ROOT / "seccomp.json").read_text()) == json.loads(json.dumps(docker_profile(SERVER)))


@pytest.mark.parametrize("call", sorted(GRANTED))
def test_what_is_granted_is_called_by_the_guest_side(call: str):
    source = "\n".join(file.read_text() for file in FOLDER.glob("*.py"))
    assert re.search(CALLED.get(call, rf'\bsyscall\(\s*"{call}"'), source), call


def test_every_call_that_the_guest_side_makes_by_number_is_allowed():
    named = {*kernel._NUMBERS["x86_64"], *kernel._NUMBERS["aarch64"], *kernel._COMMON_NUMBERS}
    assert {call: SERVER.verdict(call, NOTHING) for call in named} == dict.fromkeys(named, 0)


def test_nothing_is_granted_twice_or_without_need_and_every_grant_says_why():
    calls = [call for grant in GRANTS for call in grant.calls]
    assert len(calls) == len(set(calls))
    assert [call for call in calls if call not in BASE.refused and not BASE.rules_of(call)] == []
    assert all(len(grant.reason) > 20 for grant in GRANTS)


@pytest.mark.parametrize("call", NEVER.split())
def test_what_has_no_business_in_the_container_is_refused(call: str):
    assert call in KNOWN
    assert SERVER.verdict(call, NOTHING) == errno.EPERM


def test_clone3_and_calls_that_nobody_has_judged_do_not_exist():
    assert SERVER.verdict("clone3", NOTHING) == errno.ENOSYS
    assert docker_profile(SERVER)["defaultErrnoRet"] == errno.ENOSYS


def test_beyond_the_grants_the_container_may_what_nobody_inside_is_refused():
    for machine in syscalls.AUDIT_ARCH:
        for call in set(syscalls.numbers(machine)) - GRANTED:
            assert SERVER.rules_of(call) == BASE.rules_of(call)
            assert SERVER.verdict(call, NOTHING) == BASE.verdict(call, NOTHING), call


def test_a_guest_has_none_of_the_grants():
    namespaces = {"clone": (0x1000_0000, 0, 0, 0, 0, 0), "prlimit64": (1, 0, 0, 0, 0, 0)}
    assert [call for call in GRANTED if not NAMESPACES.verdict(call, namespaces.get(call, NOTHING))] == []


def test_a_policy_without_grants_stays_as_it_is():
    same = BASE.allowing("base", ())
    assert (same.groups, same.rules) == (BASE.groups, BASE.rules)
