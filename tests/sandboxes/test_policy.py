"""The table is sound: every name exists, nothing is said twice, programs keep what they need, the document agrees."""

import errno
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.sandboxes import syscalls
from codex_server.sandboxes.policy import (
    CONFINED,
    CONFINED_OWN_UID,
    CONTAINER,
    POLICIES,
    ROOM,
    ROOM_SHARED_UID,
    Group,
    Policy,
    Rule,
    Values,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "syscall-policy.md"
START, END = "<!-- table: start -->\n", "<!-- table: end -->\n"
KNOWN = sorted({call for machine in syscalls.AUDIT_ARCH for call in syscalls.numbers(machine)})
NOTHING = (0, 0, 0, 0, 0, 0)

by_name = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)

DANGEROUS = (
    "ptrace process_vm_readv process_vm_writev keyctl add_key request_key io_uring_setup io_uring_enter "
    "io_uring_register userfaultfd bpf perf_event_open unshare setns mount umount2 open_tree open_tree_attr "
    "move_mount fsopen fsconfig fsmount fspick mount_setattr pivot_root chroot swapon swapoff reboot kexec_load "
    "kexec_file_load init_module finit_module delete_module name_to_handle_at open_by_handle_at clock_settime "
    "clock_adjtime adjtimex settimeofday memfd_secret modify_ldt iopl ioperm quotactl quotactl_fd acct lookup_dcookie "
    "vhangup syslog fanotify_init pidfd_getfd process_madvise kcmp mbind set_mempolicy move_pages migrate_pages "
    "sethostname setdomainname nfsservctl uselib ustat _sysctl seccomp landlock_create_ruleset landlock_add_rule "
    "landlock_restrict_self"
)

OF_MESSAGE_QUEUES = "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr"

NEEDED = (
    "read write openat openat2 close mmap mprotect munmap brk clone fork vfork execve execveat exit_group wait4 "
    "waitid futex futex_waitv rseq set_robust_list rt_sigaction rt_sigprocmask sigaltstack getrandom memfd_create "
    "eventfd2 epoll_create1 epoll_pwait2 timerfd_create signalfd4 pipe2 dup3 fcntl ioctl prctl prlimit64 getrlimit "
    "setrlimit socketpair sendmsg recvmsg mkdirat unlinkat renameat2 linkat symlinkat statx newfstatat getdents64 "
    "ftruncate fallocate fsync flock copy_file_range sendfile splice mknodat utimensat sched_yield sched_getaffinity "
    "sched_setaffinity getcpu membarrier madvise mremap mlock pidfd_open pidfd_send_signal kill tgkill setsid setpgid "
    "setpriority arch_prctl close_range faccessat2"
)


@by_name
def test_every_call_that_is_named_exists_on_some_machine(policy):
    named = {call for group in policy.groups for call in group.calls} | {rule.call for rule in policy.rules}
    assert named <= set(KNOWN)


@by_name
def test_no_call_is_refused_twice_and_every_group_says_why(policy):
    counts = Counter(call for group in policy.groups for call in group.calls)
    assert [call for call, count in counts.items() if count > 1] == []
    assert len({group.title for group in policy.groups}) == len(policy.groups)
    assert all(len(entry.reason) > 20 for entry in (*policy.groups, *policy.rules))


def test_no_rule_of_the_room_is_shadowed_by_a_group():
    assert [rule.call for rule in ROOM.rules if rule.call in ROOM.refused] == []


@by_name
@pytest.mark.parametrize("call", DANGEROUS.split())
def test_what_a_container_denies_is_refused_with_eperm(policy, call):
    assert policy.verdict(call, NOTHING) == errno.EPERM


@by_name
@pytest.mark.parametrize("call", OF_MESSAGE_QUEUES.split())
def test_message_queues_that_are_counted_together_with_everybody_elses_are_refused(policy, call):
    assert policy.verdict(call, NOTHING) == errno.EPERM


@by_name
@pytest.mark.parametrize("call", NEEDED.split())
def test_what_programs_need_is_allowed(policy, call):
    harmless = {"socketpair": (1, 1, 0, 0, 0, 0), "clone": (0x0120_0011, 0, 0, 0, 0, 0)}
    assert policy.verdict(call, harmless.get(call, NOTHING)) == 0


@by_name
def test_the_c_library_is_sent_from_clone3_to_clone(policy):
    assert policy.verdict("clone3", NOTHING) == errno.ENOSYS
    thread = 0x3D_0F00
    assert policy.verdict("clone", (thread, 0, 0, 0, 0, 0)) == 0
    for namespace in (0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000):
        assert policy.verdict("clone", (namespace | 17, 0, 0, 0, 0, 0)) == errno.EPERM


@by_name
def test_a_call_without_a_name_does_not_exist(policy):
    assert policy.verdict(None, NOTHING) == errno.ENOSYS


@pytest.mark.parametrize(
    ("family", "kind", "protocol", "answer"),
    [
        (1, 1, 0, 0),
        (2, 1 | 0o2000000 | 0o4000, 6, 0),
        (10, 2 | 0o2000000, 17, 0),
        (1, 5, 0, 0),
        (0, 1, 0, errno.EAFNOSUPPORT),
        (16, 3, 0, errno.EAFNOSUPPORT),
        (17, 3, 768, errno.EAFNOSUPPORT),
        (38, 5, 0, errno.EAFNOSUPPORT),
        (40, 1, 0, errno.EAFNOSUPPORT),
        (2, 3, 1, errno.EPERM),
        (2, 3 | 0o2000000, 0, errno.EPERM),
        (2, 6, 0, errno.EPERM),
        (2, 10, 768, errno.EPERM),
        (2, 2, 1, errno.EPROTONOSUPPORT),
        (2, 1, 132, errno.EPROTONOSUPPORT),
        (10, 1, 262, errno.EPROTONOSUPPORT),
        (1 << 32 | 40, 1, 0, errno.EAFNOSUPPORT),
        (1 << 32 | 2, 1 << 40 | 1, 1 << 63, 0),
    ],
)
def test_sockets_are_local_streams_and_datagrams_tcp_and_udp(family, kind, protocol, answer):
    assert ROOM.verdict("socket", (family, kind, protocol, 0, 0, 0)) == answer


def test_a_terminal_cannot_be_typed_into_whatever_the_upper_half_says():
    for request in (0x5412, 0x541C, 0x5423):
        for rubbish in (0, 1 << 32, 0xFFFF_FFFF << 32):
            assert ROOM.verdict("ioctl", (0, request | rubbish, 0, 0, 0, 0)) == errno.EPERM
    assert ROOM.verdict("ioctl", (0, 0x5401, 0, 0, 0, 0)) == 0


@pytest.mark.parametrize("policy", [CONFINED, CONFINED_OWN_UID], ids=lambda policy: policy.name)
def test_without_namespaces_there_are_no_sockets_and_no_shared_ipc(policy):
    for family in (1, 2, 10, 16, 40):
        assert policy.verdict("socket", (family, 1, 0, 0, 0, 0)) == errno.EAFNOSUPPORT
    for call in ("shmget", "semget", "msgget", "inotify_add_watch"):
        assert policy.verdict(call, NOTHING) == errno.EPERM
    assert policy.verdict("socketpair", (1, 1 | 0o2000000, 0, 0, 0, 0)) == 0
    assert policy.verdict("socketpair", (1, 2 | 0o2000000, 0, 0, 0, 0)) == errno.EPERM


def test_a_guest_with_the_servers_uid_cannot_reach_the_servers_files_and_processes():
    assert CONFINED.verdict("fchmodat", NOTHING) == errno.EPERM
    assert CONFINED.verdict("setpriority", (2, 0, 19, 0, 0, 0)) == errno.EPERM
    assert CONFINED.verdict("setpriority", (0, 4321, 19, 0, 0, 0)) == errno.EPERM
    assert CONFINED.verdict("sched_setaffinity", (4321, 8, 0, 0, 0, 0)) == errno.EPERM
    assert CONFINED.verdict("prlimit64", (4321, 0, 0, 0, 0, 0)) == errno.EPERM
    assert CONFINED_OWN_UID.verdict("fchmodat", NOTHING) == 0


def test_a_container_may_do_beyond_a_guest_only_what_its_init_and_worker_need():
    named = {call for group in ROOM.groups for call in group.calls} | {rule.call for rule in ROOM.rules}
    differing = {call for call in named if ROOM.rules_of(call) != CONTAINER.rules_of(call)}
    differing |= {call for call in named if ROOM.refused.get(call) != CONTAINER.refused.get(call)}
    assert differing == {"prlimit64", "seccomp"}
    another_process, load_filter = (4321, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0)
    assert CONTAINER.verdict("prlimit64", another_process) == 0  # init sets its worker's limits
    assert CONTAINER.verdict("seccomp", load_filter) == 0  # the worker loads ROOM, which takes both away again
    assert ROOM.verdict("prlimit64", another_process) == ROOM.verdict("seccomp", load_filter) == errno.EPERM
    assert CONTAINER.verdict("prctl", (22, 2, 0, 0, 0, 0)) == errno.EPERM  # the old door stays shut


def test_a_container_has_the_titles_and_reasons_of_the_one_table():
    assert [(group.title, group.reason, group.errno) for group in CONTAINER.groups] == [
        (group.title, group.reason, group.errno) for group in ROOM.groups
    ]
    assert set(CONTAINER.rules) == {rule for rule in ROOM.rules if rule.call != "prlimit64"}


@given(call=st.sampled_from([*KNOWN, None]), arguments=st.tuples(*[st.integers(0, 2**64 - 1)] * 6))
def test_a_container_refuses_nothing_that_a_guests_own_filter_would_not_and_answers_the_same(call, arguments):
    if CONTAINER.verdict(call, arguments):
        assert ROOM.verdict(call, arguments) == CONTAINER.verdict(call, arguments)


@given(
    call=st.sampled_from(KNOWN),
    arguments=st.tuples(
        *[st.sampled_from([0, 1, 2, 5, 17, 0x5412, 1 << 28, 2**64 - 1]) | st.integers(0, 2**64 - 1)] * 6
    ),
)
def test_each_policy_refuses_all_that_the_weaker_one_refuses(call, arguments):
    for ever_stricter in ((ROOM, CONFINED_OWN_UID, CONFINED), (ROOM, ROOM_SHARED_UID, CONFINED)):
        refused = [bool(policy.verdict(call, arguments)) for policy in ever_stricter]
        assert sorted(refused) == refused


@pytest.mark.parametrize(
    ("mask", "values"), [(0, (0,)), (1 << 64, (0,)), (0xF, ()), (0xF, (1, 1)), (0xF, (16,)), (0xFFFF_FFFF, (1 << 32,))]
)
def test_a_rule_that_can_never_be_met_is_refused(mask, values):
    with pytest.raises(ValueError, match=r"values are missing|outside the mask"):
        Rule("ioctl", 0, mask, values, Values.ONLY, "a reason")


def test_the_first_rule_that_is_broken_answers():
    rules = (
        Rule("ioctl", 0, 0xF, (1,), Values.ONLY, "first", errno.EPERM),
        Rule("ioctl", 1, 0xF, (1,), Values.NEVER, "second", errno.EINVAL),
    )
    policy = Policy("two rules", (Group("group", "reason", ("sync",), errno.ENOSYS),), rules)
    assert policy.verdict("ioctl", (2, 1, 0, 0, 0, 0)) == errno.EPERM
    assert policy.verdict("ioctl", (1, 1, 0, 0, 0, 0)) == errno.EINVAL
    assert policy.verdict("ioctl", (1, 2, 0, 0, 0, 0)) == 0
    assert policy.verdict("sync", NOTHING) == errno.ENOSYS


def group_lines(groups: tuple[Group, ...]) -> list[str]:
    lines = ["| calls | answer | why |", "| --- | --- | --- |"]
    for group in groups:
        calls = " ".join(f"`{call}`" for call in group.calls)
        lines.append(f"| **{group.title}**: {calls} | {errno.errorcode[group.errno]} | {group.reason} |")
    return lines


def rule_lines(rules: tuple[Rule, ...]) -> list[str]:
    lines = ["| call | argument | values | otherwise | why |", "| --- | --- | --- | --- | --- |"]
    for rule in rules:
        mask = "" if rule.mask == 0xFFFF_FFFF else f" & {rule.mask:#x}"
        values = ", ".join(f"{value:#x}" if value > 255 else str(value) for value in rule.values)
        answer = errno.errorcode[rule.errno]
        lines.append(
            f"| `{rule.call}` | {rule.argument}{mask} | {rule.read.value} {values} | {answer} | {rule.reason} |"
        )
    return lines


def expected_tables() -> str:
    base_rules, own_groups, own_rules = len(ROOM.rules), len(CONFINED_OWN_UID.groups), len(CONFINED_OWN_UID.rules)
    sections: list[tuple[str, tuple[Group, ...], tuple[Rule, ...]]] = [
        ("## Everywhere", ROOM.groups, ROOM.rules),
        (
            "## Besides, where the guest has the uid of those that watch over it",
            (),
            ROOM_SHARED_UID.rules[base_rules:],
        ),
        (
            "## At level `confined` besides",
            CONFINED_OWN_UID.groups[len(ROOM.groups) :],
            CONFINED_OWN_UID.rules[base_rules:],
        ),
        ("## At level `confined` besides, when the guest has the server's uid", CONFINED.groups[own_groups:], ()),
    ]
    assert CONFINED.rules[own_rules:] == ROOM_SHARED_UID.rules[base_rules:]
    blocks = []
    for title, groups, rules in sections:
        tables = [lines(rows) for lines, rows in ((group_lines, groups), (rule_lines, rules)) if rows]
        blocks += [title, *("\n".join(table) for table in tables)]
    return "\n" + "\n\n".join(blocks) + "\n\n"


def test_the_document_lists_every_refused_call_its_answer_and_the_reason():
    written = DOCUMENT.read_text().partition(START)[2].partition(END)[0]
    assert written == expected_tables(), f"run: python tests/sandboxes/{Path(__file__).name} (it rewrites the tables)"


def test_the_document_names_the_horizon():
    assert f"number {syscalls.HORIZON}" in DOCUMENT.read_text()


if __name__ == "__main__":
    before, _, rest = DOCUMENT.read_text().partition(START)
    DOCUMENT.write_text(before + START + expected_tables() + END + rest.partition(END)[2])
