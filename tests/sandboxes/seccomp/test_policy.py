"""The table is sound: every name exists, nothing is said twice, programs keep what they need, the document agrees."""

import errno
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.sandboxes.guest import notices
from codex_server.sandboxes.seccomp import multiplexers, syscalls
from codex_server.sandboxes.seccomp.policy import (
    BASE,
    CONFINED,
    CONFINED_OWN_UID,
    CONTAINER,
    NAMESPACES,
    NAMESPACES_SHARED_UID,
    NAMESPACES_WITHOUT_OVERLAY,
    POLICIES,
)
from codex_server.sandboxes.seccomp.rules import Group, Match, Policy, Rule, Values
from codex_server.sandboxes.seccomp.sessions import SESSION

DOCUMENT = Path(__file__).parents[3] / "docs" / "syscall-policy.md"
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

COUNTED_WITH_OTHERS = (
    "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr "
    "io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy"
)

NEEDED = (
    "read write openat openat2 close mmap mprotect munmap brk clone fork vfork execve execveat exit_group wait4 "
    "waitid futex futex_waitv rseq set_robust_list rt_sigaction rt_sigprocmask sigaltstack getrandom memfd_create "
    "eventfd2 epoll_create1 epoll_pwait2 timerfd_create signalfd4 pipe2 dup3 fcntl ioctl prctl prlimit64 getrlimit "
    "setrlimit socketpair sendmsg recvmsg mkdirat unlinkat renameat2 linkat symlinkat statx newfstatat getdents64 "
    "ftruncate fallocate fsync copy_file_range sendfile splice mknodat utimensat sched_yield sched_getaffinity "
    "sched_setaffinity getcpu membarrier madvise mremap mlock pidfd_send_signal kill tgkill setsid setpgid "
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


def test_no_rule_of_the_guest_side_is_shadowed_by_a_group():
    assert [rule.call for rule in NAMESPACES.rules if rule.call in NAMESPACES.refused] == []


@by_name
@pytest.mark.parametrize("call", DANGEROUS.split())
def test_what_a_container_denies_is_refused_with_eperm(policy, call):
    assert policy.verdict(call, NOTHING) == errno.EPERM


@by_name
@pytest.mark.parametrize("call", COUNTED_WITH_OTHERS.split())
def test_what_is_counted_together_with_everybody_elses_is_refused(policy, call):
    assert policy.verdict(call, NOTHING) == errno.EPERM


@by_name
@pytest.mark.parametrize("call", NEEDED.split())
def test_what_programs_need_is_allowed(policy, call):
    harmless = {
        "socketpair": (1, 1, 0, 0, 0, 0),
        "clone": (0x0120_0011, 0, 0, 0, 0, 0),
        "ioctl": (0, 0x5401, 0, 0, 0, 0),
        "prctl": (3, 0, 0, 0, 0, 0),
    }
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
        (16, 3 | 0o2000000, 0, 0),
        (16, 3, 4, errno.EPROTONOSUPPORT),
        (16, 3, 6, errno.EPROTONOSUPPORT),
        (16, 2, 16, errno.EPROTONOSUPPORT),
        (1 << 32 | 16, 3, 1 << 32 | 12, errno.EPROTONOSUPPORT),
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
def test_sockets_are_local_tcp_udp_and_of_the_routing_table(family, kind, protocol, answer):
    assert NAMESPACES.verdict("socket", (family, kind, protocol, 0, 0, 0)) == answer


def test_a_terminal_cannot_be_typed_into_whatever_the_upper_half_says():
    for request in (0x5412, 0x541C, 0x5423):
        for rubbish in (0, 1 << 32, 0xFFFF_FFFF << 32):
            assert NAMESPACES.verdict("ioctl", (0, request | rubbish, 0, 0, 0, 0)) == errno.EPERM
    assert NAMESPACES.verdict("ioctl", (0, 0x5401, 0, 0, 0, 0)) == 0


@pytest.mark.parametrize("policy", [CONFINED, CONFINED_OWN_UID], ids=lambda policy: policy.name)
def test_without_namespaces_there_are_no_sockets_and_no_shared_ipc(policy):
    for family in (1, 2, 10, 16, 40):
        assert policy.verdict("socket", (family, 1, 0, 0, 0, 0)) == errno.EAFNOSUPPORT
    for call in ("shmget", "semget", "msgget", "inotify_add_watch"):
        assert policy.verdict(call, NOTHING) == errno.EPERM
    assert policy.verdict("socketpair", (1, 1 | 0o2000000, 0, 0, 0, 0)) == 0
    assert policy.verdict("socketpair", (1, 2 | 0o2000000, 0, 0, 0, 0)) == errno.EPERM


def test_a_guest_with_the_servers_uid_cannot_reach_the_servers_files_and_processes():
    assert CONFINED.verdict("fchownat", NOTHING) == errno.EPERM
    assert CONFINED.verdict("setpriority", (2, 0, 19, 0, 0, 0)) == errno.EPERM
    assert CONFINED.verdict("setpriority", (0, 4321, 19, 0, 0, 0)) == errno.EPERM
    assert CONFINED.verdict("sched_setaffinity", (4321, 8, 0, 0, 0, 0)) == errno.EPERM
    assert CONFINED.verdict("prlimit64", (4321, 0, 0, 0, 0, 0)) == errno.EPERM
    assert CONFINED_OWN_UID.verdict("fchownat", NOTHING) == 0


def test_a_container_may_do_beyond_a_guest_only_what_its_init_and_worker_need():
    named = {call for group in NAMESPACES.groups for call in group.calls} | {rule.call for rule in NAMESPACES.rules}
    differing = {call for call in named if BASE.rules_of(call) != CONTAINER.rules_of(call)}
    differing |= {call for call in named if BASE.refused.get(call) != CONTAINER.refused.get(call)}
    assert differing == {"prlimit64", "seccomp"}
    another_process, load_filter = (4321, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0)
    assert CONTAINER.verdict("prlimit64", another_process) == 0  # init sets its worker's limits
    assert CONTAINER.verdict("seccomp", load_filter) == 0  # the worker loads NAMESPACES, which takes both away again
    assert NAMESPACES.verdict("prlimit64", another_process) == NAMESPACES.verdict("seccomp", load_filter) == errno.EPERM
    assert CONTAINER.verdict("prctl", (22, 2, 0, 0, 0, 0)) == errno.EPERM  # the old door stays shut


def test_a_container_has_the_titles_and_reasons_of_the_one_table():
    assert [(group.title, group.reason, group.errno) for group in CONTAINER.groups] == [
        (group.title, group.reason, group.errno) for group in NAMESPACES.groups
    ]
    assert set(CONTAINER.rules) == {rule for rule in BASE.rules if rule.call != "prlimit64"}
    assert set(BASE.rules) < set(NAMESPACES.rules)


@given(call=st.sampled_from([*KNOWN, None]), arguments=st.tuples(*[st.integers(0, 2**64 - 1)] * 6))
def test_a_container_refuses_nothing_that_a_guests_own_filter_would_not_and_answers_the_same(call, arguments):
    if CONTAINER.verdict(call, arguments):
        assert NAMESPACES.verdict(call, arguments) == CONTAINER.verdict(call, arguments)


@given(
    call=st.sampled_from(KNOWN),
    arguments=st.tuples(
        *[st.sampled_from([0, 1, 2, 5, 17, 0x5412, 1 << 28, 2**64 - 1]) | st.integers(0, 2**64 - 1)] * 6
    ),
)
def test_each_policy_refuses_all_that_the_weaker_one_refuses(call, arguments):
    for ever_stricter in ((NAMESPACES, CONFINED_OWN_UID, CONFINED), (NAMESPACES, NAMESPACES_SHARED_UID, CONFINED)):
        refused = [bool(policy.verdict(call, arguments)) for policy in ever_stricter]
        assert sorted(refused) == refused


def requested(policy: Policy, call: str, *arguments: int) -> int:
    return policy.verdict(call, (*arguments, 0, 0, 0, 0, 0, 0)[:6])


REFUSED_COMMANDS = [
    # the call, its arguments, the answer, what it would do
    ("fcntl", (3, 1024, 1), errno.EPERM, "F_SETLEASE"),
    ("fcntl", (3, 1 << 32 | 1024, 1), errno.EPERM, "F_SETLEASE, with rubbish above"),
    ("fcntl", (3, 1026, 1), errno.EPERM, "F_NOTIFY"),
    ("fcntl", (3, 1036, 0), errno.EINVAL, "F_SET_RW_HINT"),
    ("fcntl", (3, 2000, 0), errno.EINVAL, "a command of a later kernel"),
    ("ioctl", (3, 0x4008_6602, 0), errno.ENOTTY, "FS_IOC_SETFLAGS"),
    ("ioctl", (3, 0x4004_6602, 0), errno.ENOTTY, "FS_IOC32_SETFLAGS"),
    ("ioctl", (3, 0x401C_5820, 0), errno.ENOTTY, "FS_IOC_FSSETXATTR"),
    ("ioctl", (3, 0x4008_7602, 0), errno.ENOTTY, "FS_IOC_SETVERSION"),
    ("ioctl", (3, 0x4004_9409, 0), errno.ENOTTY, "FICLONE"),
    ("ioctl", (3, 0xC040_FF0B, 0), errno.ENOTTY, "PIDFD_GET_INFO"),
    ("ioctl", (3, 0xFF01, 0), errno.ENOTTY, "PIDFD_GET_CGROUP_NAMESPACE"),
    ("prctl", (35, 0), errno.EINVAL, "PR_SET_MM"),
    ("prctl", (62, 0), errno.EINVAL, "PR_SCHED_CORE"),
    ("prctl", (67, 1), errno.EINVAL, "PR_SET_MEMORY_MERGE"),
    ("setsockopt", (3, 41, 32), errno.EPERM, "IPV6_FLOWLABEL_MGR"),
    ("setsockopt", (3, 1 << 32 | 41, 1 << 32 | 32), errno.EPERM, "IPV6_FLOWLABEL_MGR, with rubbish above"),
    ("setsockopt", (3, 6, 31), errno.ENOPROTOOPT, "TCP_ULP"),
    ("setsockopt", (3, 6, 13), errno.ENOPROTOOPT, "TCP_CONGESTION"),
    ("setsockopt", (3, 1, 26), errno.ENOPROTOOPT, "SO_ATTACH_FILTER"),
    ("setsockopt", (3, 1, 50), errno.ENOPROTOOPT, "SO_ATTACH_BPF"),
    ("setsockopt", (3, 132, 1), errno.ENOPROTOOPT, "an option of SCTP"),
    ("setrlimit", (4, 0x1000), errno.EPERM, "RLIMIT_CORE"),
    ("prlimit64", (0, 4, 0x1000, 0), errno.EPERM, "RLIMIT_CORE"),
    ("prlimit64", (0, 4, 1 << 32, 0), errno.EPERM, "RLIMIT_CORE, by an address whose lower half is nothing"),
    ("prlimit64", (1 << 32, 1 << 32 | 4, 0x1000, 0), errno.EPERM, "RLIMIT_CORE, with rubbish above"),
    ("mmap", (0, 4096, 3, 0x4_0022), errno.EPERM, "MAP_HUGETLB"),
    ("mmap", (0, 4096, 3, 21 << 26 | 0x4_0022), errno.EPERM, "MAP_HUGETLB of 2 MiB"),
    ("memfd_create", (0, 4), errno.EPERM, "MFD_HUGETLB"),
    ("memfd_create", (0, 21 << 26 | 5), errno.EPERM, "MFD_HUGETLB of 2 MiB"),
    ("shmget", (1, 4096, 0o4000 | 0o1600), errno.EPERM, "SHM_HUGETLB"),
    ("madvise", (0, 4096, 12), errno.EPERM, "MADV_MERGEABLE"),
]


@by_name
@pytest.mark.parametrize(("call", "arguments", "answer"), [row[:3] for row in REFUSED_COMMANDS], ids=lambda _: "")
def test_a_command_that_reaches_what_others_have_is_refused(policy, call, arguments, answer):
    assert requested(policy, call, *arguments) in ({answer} if call not in policy.refused else {policy.refused[call]})


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("fcntl", (3, 1030, 0)),
        ("fcntl", (3, 38, 0)),
        ("ioctl", (0, 0x5413, 0)),
        ("ioctl", (3, 0x541B, 0)),
        ("prctl", (15, 0)),
        ("setsockopt", (3, 1, 2)),
        ("setsockopt", (3, 6, 1)),
        ("setsockopt", (3, 0, 32)),
        ("setsockopt", (3, 1, 41)),
        ("setsockopt", (3, 41, 26)),
        ("setrlimit", (7, 0x1000)),
        ("prlimit64", (0, 4, 0, 0x1000)),
        ("prlimit64", (0, 7, 0x1000, 0)),
        ("mmap", (0, 4096, 3, 0x2_8022)),
        ("memfd_create", (0, 0x1B)),
        ("shmget", (1, 4096, 0o1600)),
        ("madvise", (0, 4096, 4)),
    ],
)
def test_a_command_that_changes_only_what_is_ones_own_is_allowed(call, arguments):
    wanted = errno.ENOPROTOOPT if arguments == (3, 1, 41) else 0  # an option of another level
    assert requested(NAMESPACES, call, *arguments) == wanted


@pytest.mark.parametrize(
    ("call", "argument", "allowed", "otherwise"),
    [
        ("fcntl", 1, multiplexers.FCNTL, errno.EINVAL),
        ("ioctl", 1, multiplexers.IOCTL, errno.ENOTTY),
        ("prctl", 0, multiplexers.PRCTL, errno.EINVAL),
    ],
)
@given(command=st.integers(0, 2**64 - 1) | st.integers(0, 0x6000) | st.sampled_from([1024, 1026, 22, 0x5412]))
def test_what_a_multiplexer_does_not_list_is_refused(call, argument, allowed, otherwise, command):
    arguments = [0] * 6
    arguments[argument] = command
    if command & 0xFFFF_FFFF in allowed.values():
        assert NAMESPACES.verdict(call, arguments) == 0
    else:
        assert NAMESPACES.verdict(call, arguments) in (errno.EPERM, otherwise)


@given(level=st.integers(0, 300), option=st.integers(0, 300))
def test_a_socket_option_is_allowed_at_its_own_level_alone(level, option):
    listed = dict(multiplexers.SETSOCKOPT.values()).get(level, {})
    allowed = option in listed.values()
    assert (requested(NAMESPACES, "setsockopt", 3, level, option) == 0) is allowed


def test_where_the_hosts_own_inodes_are_shown_there_are_no_locks_and_no_watches():
    for command in multiplexers.FCNTL_LOCKS.values():
        assert requested(NAMESPACES_WITHOUT_OVERLAY, "fcntl", 3, command) == errno.EPERM
        assert requested(NAMESPACES, "fcntl", 3, command) == 0
    assert requested(NAMESPACES_WITHOUT_OVERLAY, "fcntl", 3, 1030) == 0
    assert requested(NAMESPACES_WITHOUT_OVERLAY, "flock", 3, 2) == errno.ENOSYS
    assert requested(NAMESPACES_WITHOUT_OVERLAY, "inotify_add_watch", 3) == errno.EPERM


@pytest.mark.parametrize("policy", [CONFINED, CONFINED_OWN_UID], ids=lambda policy: policy.name)
def test_on_the_hosts_own_files_there_are_no_locks_and_on_its_processes_no_descriptors(policy):
    assert (requested(policy, "flock", 3, 2), requested(NAMESPACES, "flock", 3, 2)) == (errno.ENOSYS, 0)
    assert (requested(policy, "pidfd_open", 1), requested(NAMESPACES, "pidfd_open", 1)) == (errno.EPERM, 0)


def test_where_guests_share_a_uid_every_way_to_a_files_mode_or_times_is_refused_or_held():
    ways = {call for call in KNOWN if re.search("chmod|utime|file_setattr", call)}
    held = {held.call for held in notices.ATTRIBUTES}
    for call in ways:
        assert (requested(CONFINED, call) == errno.EPERM) is (call not in held), call


def test_a_condition_stands_on_another_argument_than_the_rule():
    with pytest.raises(ValueError, match="same argument"):
        Rule("ioctl", 1, 1, (1,), Values.ONLY, "a reason", where=Match(1, 2, (2,)))


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
        answer = errno.errorcode[rule.errno]
        where = f", where {shown_match(rule.where)}" if rule.where else ""
        values = shown_values(rule) if len(rule.values) < 10 else f"the {len(rule.values)} listed below"
        argument = f"{rule.argument}{shown_mask(rule)}{where}"
        lines.append(f"| `{rule.call}` | {argument} | {rule.read.value} {values} | {answer} | {rule.reason} |")
    return lines


def shown_mask(rule: Rule | Match) -> str:
    return "" if rule.mask in (0xFFFF_FFFF, 2**64 - 1) else f" & {rule.mask:#x}"


def shown_values(rule: Rule | Match) -> str:
    return ", ".join(f"{value:#x}" if value > 255 else str(value) for value in rule.values)


def shown_match(match: Match) -> str:
    return f"{match.argument}{shown_mask(match)} is {shown_values(match)}"


def multiplexer_lines() -> list[str]:
    tables = {"fcntl": multiplexers.FCNTL, "ioctl": multiplexers.IOCTL, "prctl": multiplexers.PRCTL}
    tables |= {f"setsockopt, {name}": options for name, (_, options) in multiplexers.SETSOCKOPT.items()}
    rows = [f"| `{call}` | {' '.join(f'`{name}`' for name in names)} |" for call, names in tables.items()]
    return ["| call | what is allowed |", "| --- | --- |", *rows]


def beyond(more, less):
    return tuple(entry for entry in more if entry not in less)


def expected_tables() -> str:
    shared = NAMESPACES_SHARED_UID.rules[len(NAMESPACES.rules) :]
    without_overlay = NAMESPACES_WITHOUT_OVERLAY.groups[len(NAMESPACES.groups) :]
    sections: list[tuple[str, tuple[Group, ...], tuple[Rule, ...]]] = [
        ("## Everywhere", NAMESPACES.groups, NAMESPACES.rules),
        ("## Besides, where the guest has the uid of those that watch over it", (), shared),
        (
            "## Besides, where a guest sees the host's files with their own inodes",
            without_overlay,
            NAMESPACES_WITHOUT_OVERLAY.rules[len(NAMESPACES.rules) :],
        ),
        (
            "## At level `confined` besides",
            beyond(CONFINED_OWN_UID.groups, (*NAMESPACES.groups, *without_overlay)),
            beyond(CONFINED_OWN_UID.rules, NAMESPACES_WITHOUT_OVERLAY.rules),
        ),
        (
            "## At level `confined` besides, when the guest has the server's uid",
            beyond(CONFINED.groups, CONFINED_OWN_UID.groups),
            beyond(CONFINED.rules, (*CONFINED_OWN_UID.rules, *shared)),
        ),
        ("## In a session besides, at every level", SESSION.groups, SESSION.rules),
    ]
    assert set(shared) < set(CONFINED.rules)
    assert set(without_overlay) < set(CONFINED_OWN_UID.groups)
    blocks = []
    for title, groups, rules in sections:
        tables = [lines(rows) for lines, rows in ((group_lines, groups), (rule_lines, rules)) if rows]
        blocks += [title, *("\n".join(table) for table in tables)]
    blocks += ["## The commands of calls that are many in one", "\n".join(multiplexer_lines())]
    return "\n" + "\n\n".join(blocks) + "\n\n"


def test_the_document_lists_every_refused_call_its_answer_and_the_reason():
    written = DOCUMENT.read_text().partition(START)[2].partition(END)[0]
    assert written == expected_tables(), f"run: python tests/sandboxes/{Path(__file__).name} (it rewrites the tables)"


def test_the_document_names_the_horizon():
    assert f"number {syscalls.HORIZON}" in DOCUMENT.read_text()


if __name__ == "__main__":
    before, _, rest = DOCUMENT.read_text().partition(START)
    DOCUMENT.write_text(before + START + expected_tables() + END + rest.partition(END)[2])
