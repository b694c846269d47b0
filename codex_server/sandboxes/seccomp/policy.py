"""What a guest may ask of the kernel: the one table to review. Two lists stand beside it: the calls that are refused
whatever their arguments (``refused.py``), and the commands of calls that are many in one (``multiplexers.py``).

How to read it. A system call is judged by name, in this order:

1. A name that ``syscalls.py`` does not know (left out, or newer than its horizon) does not exist: ENOSYS.
2. A call in a ``Group`` is refused with the group's errno.
3. A call with ``Rule``s is refused by the first rule that its arguments break.
4. Everything else is allowed.

Outside the table stand only: another machine's calls (32-bit calls on a 64-bit kernel) kill the process, because their
numbers mean other calls; x32 calls do not exist (ENOSYS). INVARIANT: everything else is answered with an errno, never
with a signal, so that a program that merely asks goes on.

The filter comes after namespaces, dropped capabilities and no-new-privileges. Much of what it refuses would fail
without it; it is here so that the code behind those calls, where kernels have their holes, cannot be reached at all.

``seccomp.py`` compiles this table for the kernel and for Docker; ``docs/syscall-policy.md`` is checked against it.
"""

from collections.abc import Mapping
from errno import EAFNOSUPPORT, EINVAL, ENOPROTOOPT, ENOSYS, ENOTTY, EOPNOTSUPP, EPROTONOSUPPORT
from typing import Final

from codex_server.sandboxes.seccomp import multiplexers
from codex_server.sandboxes.seccomp.refused import REFUSED_EVERYWHERE, calls_in
from codex_server.sandboxes.seccomp.rules import Group, Match, Policy, Rule, Values

_INT = 0xFFFF_FFFF  # the kernel reads an int: the low half of the argument


_LEASE_AND_NOTIFY = (1024, 1026)
_IPV6, _FLOW_LABELS = 41, 32
_DATA_FAMILIES, _NETLINK = (1, 2, 10), 16
_CORE = (4,)
_HUGE_PAGES = "The host's pool of huge pages is bounded by no limit of the sandbox: one guest could take them all."

_BASE_RULES: Final = (
    Rule(
        "clone",
        0,
        0x7E02_8000,
        (0,),
        Values.ONLY,
        "Any of CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET makes a namespace; threads and "
        "processes stay. (CLONE_NEWTIME, 0x80, is part of a signal's number here: only clone3 and unshare know it.) "
        "CLONE_PARENT would make a child of the program's parent, which is outside and waits for no other.",
    ),
    Rule(
        "socket",
        0,
        _INT,
        (*_DATA_FAMILIES, _NETLINK),
        Values.ONLY,
        "Only AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK. A network namespace does not hold AF_VSOCK (a way to the "
        "hypervisor) or AF_ALG; AF_PACKET and the rare families are large and bug-ridden.",
        EAFNOSUPPORT,
    ),
    Rule(
        "socket",
        1,
        0xF,
        (1, 2, 5),
        Values.ONLY,
        "Only SOCK_STREAM, SOCK_DGRAM and SOCK_SEQPACKET (flags such as SOCK_CLOEXEC lie above the mask): no raw "
        "packets, and no type that makes the kernel load a protocol module (SOCK_DCCP).",
        where=Match(0, _INT, _DATA_FAMILIES),
    ),
    Rule(
        "socket",
        2,
        _INT,
        (0, 6, 17),
        Values.ONLY,
        "Only the family's default, TCP and UDP: others make the kernel load protocol modules (SCTP, L2TP) or have "
        "little use here (MPTCP, ICMP).",
        EPROTONOSUPPORT,
        Match(0, _INT, _DATA_FAMILIES),
    ),
    Rule(
        "socket",
        2,
        _INT,
        (0,),
        Values.ONLY,
        "Only NETLINK_ROUTE, by which C libraries list the network interfaces: here the loopback of a network of its "
        "own. To change anything takes a capability there, which no guest has; the other protocols (netfilter, IPsec, "
        "audit, generic) are the bug-ridden ones.",
        EPROTONOSUPPORT,
        Match(0, _INT, (_NETLINK,)),
    ),
    Rule(
        "socketpair",
        0,
        _INT,
        (1,),
        Values.ONLY,
        "Only AF_UNIX knows pairs (AF_TIPC does too, and would be loaded).",
        EAFNOSUPPORT,
    ),
    Rule(
        "ioctl",
        1,
        _INT,
        (0x5412, 0x541C, 0x5423),
        Values.NEVER,
        "TIOCSTI and TIOCLINUX type into a terminal as its user would; TIOCSETD has the kernel load line disciplines.",
    ),
    Rule(
        "fcntl",
        1,
        _INT,
        _LEASE_AND_NOTIFY,
        Values.NEVER,
        "F_SETLEASE holds up whoever opens the file, the host too; F_NOTIFY watches a folder.",
    ),
    Rule(
        "setsockopt",
        2,
        _INT,
        (_FLOW_LABELS,),
        Values.NEVER,
        "IPV6_FLOWLABEL_MGR: a label outlives its socket and its process, for whoever has the network next.",
        where=Match(1, _INT, (_IPV6,)),
    ),
    Rule("mmap", 3, 0x4_0000, (0,), Values.ONLY, "No MAP_HUGETLB. " + _HUGE_PAGES),
    Rule("shmget", 2, 0x800, (0,), Values.ONLY, "No SHM_HUGETLB. " + _HUGE_PAGES),
    Rule(
        "memfd_create",
        1,
        _INT & ~sum(multiplexers.MEMFD_CREATE.values()),
        (0,),
        Values.ONLY,
        "Only MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL and MFD_EXEC. " + _HUGE_PAGES,
    ),
    Rule(
        "madvise",
        2,
        _INT,
        (12, 100, 101),
        Values.NEVER,
        "MADV_MERGEABLE has the kernel share pages with other processes, which shows by its timing what is in them; "
        "MADV_HWPOISON and MADV_SOFT_OFFLINE take the host's memory out of use.",
    ),
    Rule(
        "personality",
        0,
        _INT,
        (0, 0xFFFF_FFFF),
        Values.ONLY,
        "Only Linux's own personality, and asking for the present one: others switch off address randomisation.",
    ),
    Rule(
        "prctl",
        0,
        _INT,
        (22,),
        Values.NEVER,
        "PR_SET_SECCOMP is the old door to what the group «Confinement of its own» refuses.",
    ),
    Rule(
        "prlimit64",
        0,
        _INT,
        (0,),
        Values.ONLY,
        "Only its own limits: a guest that shares its supervisor's uid could starve it to death.",
    ),
)


def _only(call: str, argument: int, allowed: Mapping[str, int], reason: str, errno: int) -> Rule:
    return Rule(call, argument, _INT, tuple(allowed.values()), Values.ONLY, reason, errno)


def _options(name: str, level: int, options: Mapping[str, int]) -> Rule:
    reason = f"{name}: only the options of multiplexers.py."
    where = Match(1, _INT, (level,))
    return Rule("setsockopt", 2, _INT, tuple(options.values()), Values.ONLY, reason, ENOPROTOOPT, where)


_CORE_REASON = (
    "RLIMIT_CORE is 1, which alone keeps the kernel from handing the program's memory to a core_pattern that is a "
    "program; it may be asked for, not changed."
)

_GUEST_RULES: Final = (
    Rule(
        "ioctl",
        1,
        _INT,
        (0x8946,),
        Values.NEVER,
        "SIOCETHTOOL is a hundred commands for network cards, distinguished by memory. It gets what a loopback, the "
        "one interface here, says to most of them; who lists interfaces asks it for their speed.",
        EOPNOTSUPP,
    ),
    _only("ioctl", 1, multiplexers.IOCTL, "Only the requests of multiplexers.py.", ENOTTY),
    _only("fcntl", 1, multiplexers.FCNTL, "Only the commands of multiplexers.py.", EINVAL),
    _only("prctl", 0, multiplexers.PRCTL, "Only the options of multiplexers.py.", EINVAL),
    Rule(
        "setsockopt",
        1,
        _INT,
        tuple(level for level, _ in multiplexers.SETSOCKOPT.values()),
        Values.ONLY,
        "Only the levels of multiplexers.py.",
        ENOPROTOOPT,
    ),
    *(_options(name, level, options) for name, (level, options) in multiplexers.SETSOCKOPT.items()),
    Rule("setrlimit", 0, _INT, _CORE, Values.NEVER, _CORE_REASON),
    Rule("prlimit64", 2, (1 << 64) - 1, (0,), Values.ONLY, _CORE_REASON, where=Match(1, _INT, _CORE)),
)

_ONE_PROCESS = "Only one process: a group or a whole uid holds those that watch over the guest."
_SELF_ONLY = "Only itself (0): who watches over the guest has its uid, and could be slowed down by it."

_SHARED_UID_RULES: Final = (
    Rule("setpriority", 0, _INT, (0,), Values.ONLY, _ONE_PROCESS),
    Rule("setpriority", 1, _INT, (0,), Values.ONLY, _SELF_ONLY),
    Rule("ioprio_set", 0, _INT, (1,), Values.ONLY, _ONE_PROCESS),
    Rule("ioprio_set", 1, _INT, (0,), Values.ONLY, _SELF_ONLY),
    Rule("sched_setaffinity", 0, _INT, (0,), Values.ONLY, _SELF_ONLY),
    Rule("sched_setscheduler", 0, _INT, (0,), Values.ONLY, _SELF_ONLY),
    Rule("sched_setparam", 0, _INT, (0,), Values.ONLY, _SELF_ONLY),
    Rule("sched_setattr", 0, _INT, (0,), Values.ONLY, _SELF_ONLY),
)

BASE: Final = Policy("base", REFUSED_EVERYWHERE, _BASE_RULES)
"""What neither a guest nor the trusted processes around it have any use for."""

CONTAINER: Final = BASE.allowing("container", ("prlimit64", "seccomp"))
"""What an engine puts around a container: there init sets its worker's limits, and the worker loads its own filter."""

_RULES: Final = _BASE_RULES + _GUEST_RULES

NAMESPACES: Final = Policy("namespaces", REFUSED_EVERYWHERE, _RULES)
"""For a guest in namespaces of its own (levels ``full`` and ``namespaces``) with a uid of its own."""

NAMESPACES_SHARED_UID: Final = Policy("namespaces, shared uid", REFUSED_EVERYWHERE, _RULES + _SHARED_UID_RULES)
"""For a guest in namespaces of its own whose init has its uid: in a container, and where there is one uid for all."""

_HOST_INODES: Final = (
    Group(
        "Watches on files",
        "Here the files are the host's own: the names of files that other programs touch would be seen.",
        calls_in("inotify_init inotify_init1 inotify_add_watch inotify_rm_watch"),
    ),
    Group(
        "Locks on whole files",
        "Here the files are the host's own: a lock on one of them is seen, and waited for, by the host and by others.",
        calls_in("flock"),
        ENOSYS,
    ),
)

_HOST_INODES_RULES: Final = (
    Rule(
        "fcntl",
        1,
        _INT,
        tuple(multiplexers.FCNTL_LOCKS.values()),
        Values.NEVER,
        "Here the files are the host's own: thousands of locks on a library make each opening of it slow, for all.",
    ),
)

NAMESPACES_WITHOUT_OVERLAY: Final = Policy(
    "namespaces without overlay", NAMESPACES.groups + _HOST_INODES, NAMESPACES.rules + _HOST_INODES_RULES
)
"""For a guest that sees the host's files with their own inodes, because the kernel allows no overlay over them."""

NAMESPACES_WITHOUT_OVERLAY_SHARED_UID: Final = Policy(
    "namespaces without overlay, shared uid",
    NAMESPACES_WITHOUT_OVERLAY.groups,
    NAMESPACES_SHARED_UID.rules + _HOST_INODES_RULES,
)
"""The same where the guest has the uid of its init."""

_NO_NAMESPACES: Final = (
    Group(
        "Sockets",
        "There is no network namespace: loopback, the cloud's metadata address and UDP (which Landlock does not see) "
        "are the host's, and so are sockets with a path, such as a container engine's. socketpair stays.",
        calls_in("socket"),
        EAFNOSUPPORT,
    ),
    Group(
        "Shared memory and queues by number",
        "There is no ipc namespace: they are the host's. Memory shared through a memfd stays.",
        calls_in("shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl"),
    ),
    Group(
        "Descriptors of processes",
        "There is no pid namespace: one of them reports when any process of the host ends.",
        calls_in("pidfd_open"),
    ),
)

_NO_NAMESPACES_RULES: Final = (
    Rule(
        "socketpair",
        1,
        0xF,
        (1, 5),
        Values.ONLY,
        "One end of a SOCK_DGRAM pair can still send to any socket that has a path on the host; stream pairs cannot.",
    ),
    Rule(
        "fcntl",
        1,
        _INT,
        (36, 37, 38),
        Values.NEVER,
        "Here the files are the host's own. Locks of a process (F_SETLK, F_SETLKW, F_GETLK) are held and kept by its "
        "init, so that they never lie on a file; those of an open file description (F_OFD_...) are refused.",
    ),
)

CONFINED_OWN_UID: Final = Policy(
    "confined, own uid", REFUSED_EVERYWHERE + _NO_NAMESPACES + _HOST_INODES, _RULES + _NO_NAMESPACES_RULES
)
"""For a guest without namespaces (level ``confined``) whose uid owns no process and no file of anybody else."""

_SHARED_UID: Final = (
    Group(
        "Owners and attributes of files",
        "Landlock does not hold them, and the server's files have the guest's uid: it could lock the server out. Modes "
        "and times (chmod, utimensat) are held, and set by init for the guest's own files only.",
        calls_in(
            "chown fchown lchown fchownat setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr "
            "fremovexattr removexattrat file_setattr"
        ),
    ),
    Group(
        "Older calls for the times of files",
        "As above; programs use utimensat.",
        calls_in("utime utimes futimesat"),
    ),
)

CONFINED: Final = Policy(
    "confined",
    CONFINED_OWN_UID.groups + _SHARED_UID,
    CONFINED_OWN_UID.rules + _SHARED_UID_RULES,
)
"""For a guest without namespaces (level ``confined``) that runs with the server's own uid."""

POLICIES: Final = (
    NAMESPACES,
    NAMESPACES_SHARED_UID,
    NAMESPACES_WITHOUT_OVERLAY,
    NAMESPACES_WITHOUT_OVERLAY_SHARED_UID,
    CONFINED_OWN_UID,
    CONFINED,
)
