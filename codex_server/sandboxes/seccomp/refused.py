"""Calls that no guest may make, whatever their arguments, and why: the first list of the table to review."""

from errno import ENOSYS
from typing import Final

from codex_server.sandboxes.seccomp.rules import Group


def calls_in(words: str) -> tuple[str, ...]:
    """The names of calls in a text."""
    return tuple(words.split())


REFUSED_EVERYWHERE: Final = (
    Group(
        "Namespaces",
        "A new user namespace gives its maker every capability inside it: the usual first step out of a container.",
        calls_in("unshare setns"),
    ),
    Group(
        "clone3",
        "Its flags lie in memory, where a filter cannot read them. After ENOSYS the C library takes clone (below).",
        calls_in("clone3"),
        ENOSYS,
    ),
    Group(
        "Mounts and roots",
        "The view of files is fixed before the guest starts; the mount table names the host's paths.",
        calls_in(
            "mount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick "
            "mount_setattr statmount listmount listns"
        ),
    ),
    Group(
        "Other processes' insides",
        "Reads, writes or steals from another process: its memory, registers, descriptors.",
        calls_in(
            "ptrace process_vm_readv process_vm_writev process_madvise process_mrelease pidfd_getfd kcmp "
            "perf_event_open"
        ),
    ),
    Group(
        "Kernel keyrings",
        "Keyrings are not separated by a namespace of their own: they are shared with the host's user.",
        calls_in("keyctl add_key request_key"),
    ),
    Group(
        "Message queues by name",
        "The kernel charges them, over all user namespaces, to the account that made the sandboxes: one guest's would "
        "use up those of every other and of the host.",
        calls_in("mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr"),
    ),
    Group(
        "Asynchronous input and output",
        "Places for it are counted for the whole host (fs.aio-max-nr): one guest could take every one of them.",
        calls_in("io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy"),
    ),
    Group(
        "io_uring",
        "Does file and socket operations past any filter of calls, and has been a steady source of kernel holes.",
        calls_in("io_uring_setup io_uring_enter io_uring_register"),
    ),
    Group(
        "Programs for the kernel",
        "Loads code into the kernel, or (userfaultfd) stops it halfway through a copy: the main tool of exploits.",
        calls_in("bpf userfaultfd init_module finit_module delete_module kexec_load kexec_file_load"),
    ),
    Group(
        "Confinement of its own",
        "A guest is confined already; a second filter, ruleset or label only adds kernel code within its reach.",
        calls_in(
            "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self lsm_get_self_attr "
            "lsm_set_self_attr lsm_list_modules"
        ),
    ),
    Group(
        "Files past their paths",
        "Opens a file by a handle, or watches whole file systems: both go around the guest's view of files.",
        calls_in("name_to_handle_at open_by_handle_at fanotify_init fanotify_mark"),
    ),
    Group(
        "The machine",
        "Changes the host for everybody: its clock, its name, its swap, its quotas, its power.",
        calls_in(
            "clock_settime clock_adjtime adjtimex settimeofday sethostname setdomainname swapon swapoff quotactl "
            "quotactl_fd acct reboot vhangup syslog"
        ),
    ),
    Group(
        "Flushes of every file system",
        "Namespaces do not hold sync back: it writes out the host's disks, again and again if asked. fsync stays.",
        calls_in("sync syncfs"),
    ),
    Group(
        "Placement of memory",
        "Moves pages between the host's memory nodes, its own or another's; Docker refuses it too.",
        calls_in("mbind set_mempolicy set_mempolicy_home_node get_mempolicy migrate_pages move_pages"),
    ),
    Group(
        "Secret memory",
        "Takes pages out of the kernel's own map and keeps the host from sleeping; no program asks for it.",
        calls_in("memfd_secret"),
    ),
    Group(
        "Processor internals",
        "Segment tables and input/output ports of x86: no program of today needs them, exploits have.",
        calls_in("modify_ldt iopl ioperm"),
    ),
    Group(
        "Old interfaces",
        "Little used and little tested kernel code, which Docker refuses too.",
        calls_in("lookup_dcookie nfsservctl uselib ustat sysfs _sysctl query_module get_kernel_syms create_module"),
    ),
)
