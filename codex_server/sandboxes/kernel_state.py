"""Kernel state that a guest can touch: who owns each kind, what bounds it, what resets it, which tests prove it.

The view of a guest is closed by namespaces; what lies behind that view is not closed by itself. A kind that is missing
here is a gap. ``SECURITY.md`` shows this table, and ``NamespaceBoundary.renew`` follows from it: what it keeps is what
no guest can change, all else is replaced.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Owner(Enum):
    """Whose state it is, so to whom a guest's use of it could be felt."""

    PROCESS = "process"
    """It ends with the process."""
    SLOT = "slot"
    """A namespace, a mount or a cgroup of the slot's own."""
    UID = "uid"
    """The kernel counts it for each host id. Guests have one each; where they share one, they share this."""
    CREATOR = "creator of the user namespace"
    """It is charged to the guest's id and to the id that made its user namespace: as root one of the guests' range,
    elsewhere the server's account."""
    INODE = "inode"
    """It lies on a file, and everybody who has the file meets it."""
    HOST = "host"
    """There is one for the whole machine."""


@dataclass(frozen=True, slots=True)
class State:
    """One kind. ``bound``: what a guest may take of it; ``reset``: what ends it, for the next guest in the slot."""

    kind: str
    owner: Owner
    bound: str
    reset: str
    tests: tuple[str, ...]


def _tests(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_REFUSED = "refused"
_WITH_IT = "ends with the process"

KERNEL_STATE: Final = (
    State(
        "descriptors, memory, signal handlers, timers, umask, priority, affinity",
        Owner.PROCESS,
        "all sixteen resource limits are set; memory by cgroup or watchdog",
        "the worker is a new fork of the zygote, which sees no byte of a guest",
        _tests(
            "test_every_resource_limit_is_set test_a_guest_finds_the_world_as_the_one_before_found_it "
            "test_a_guest_finds_no_byte_of_the_one_before_in_its_own_memory"
        ),
    ),
    State(
        "score for the out-of-memory killer, peak of memory",
        Owner.PROCESS,
        "1000, and `/proc` is read-only",
        _WITH_IT,
        _tests("test_guest_is_the_first_to_die_for_memory test_a_guest_writes_nothing_of_itself_into_proc"),
    ),
    State(
        "random bytes of the program's start (`AT_RANDOM`)",
        Owner.PROCESS,
        "16 bytes",
        "new in each worker",
        _tests(
            "test_two_guests_are_given_different_random_bytes_by_the_kernel test_two_executions_share_no_randomness"
        ),
    ),
    State(
        "processes and threads, their numbers",
        Owner.SLOT,
        "pids cgroup, or RLIMIT_NPROC",
        "all are killed and reaped; the next is number 2 again",
        _tests(
            "test_a_fork_bomb_is_bounded_and_dies test_the_number_of_processes_is_bounded "
            "test_a_daemon_that_ignores_every_signal_is_dead_afterwards"
        ),
    ),
    State(
        "files in the workspace, `/tmp`, `/dev/shm`",
        Owner.SLOT,
        "size and inodes of each tmpfs; memory cgroup",
        "unmounted and made anew, unless nothing was touched",
        _tests("test_disk_and_inodes_are_bounded test_nothing_of_one_execution_is_left_for_the_next"),
    ),
    State(
        "System V shared memory, semaphores, queues",
        Owner.SLOT,
        "memory cgroup",
        "a new ipc namespace each time",
        _tests("test_two_guests_share_no_ipc test_message_queues_do_not_outlive_their_guest"),
    ),
    State(
        "sockets of the Internet: ports, buffers, routes, connections that linger, flow labels",
        Owner.SLOT,
        "cgroup v1: a limit of its own; v2: the memory limit; without cgroups: the watchdog; flow labels are refused",
        "a new network namespace, where the kernel saw such a socket made",
        _tests(
            "test_memory_in_sockets_that_nobody_reads_is_bounded_and_told test_a_network_that_was_used_is_replaced "
            "test_a_network_in_which_a_socket_was_made_is_replaced_whatever_it_counted test_a_guest_makes_no_flow_label"
        ),
    ),
    State(
        "sockets of the routing table (netlink): what waits in them",
        Owner.HOST,
        "32 sockets, counted by init, and the watchdog; where the kernel reports no calls to init, refused",
        "a new network namespace, where the kernel saw such a socket made",
        _tests(
            "test_what_waits_in_sockets_of_the_routing_table_is_bounded "
            "test_a_network_in_which_a_socket_was_made_is_replaced_whatever_it_counted "
            "test_guest_changes_nothing_of_its_network_by_the_socket_that_lists_it"
        ),
    ),
    State(
        "Unix sockets with an abstract name",
        Owner.SLOT,
        "descriptors; memory cgroup",
        "end with their last descriptor",
        _tests("test_two_guests_share_no_port_and_no_abstract_socket"),
    ),
    State(
        "terminals: pairs, what waits in them, their settings",
        Owner.SLOT,
        "16 pairs in a file system of the slot's own; without `terminal` none; listed requests, and none that types",
        "a slot with a terminal is thrown away",
        _tests(
            "test_a_guest_finds_no_terminal_but_its_own test_nothing_of_a_terminal_is_there_for_the_next_guest "
            "test_a_guest_takes_few_terminals "
            "test_a_guest_types_into_no_terminal_and_changes_nothing_about_what_it_is"
        ),
    ),
    State(
        "mounts, host name",
        Owner.SLOT,
        "no capability; the calls are refused",
        "cannot change",
        _tests("test_guest_cannot_write_outside_its_own_folders test_guest_is_refused_every_call_that_leads_out"),
    ),
    State(
        "what a cgroup counts: memory, CPU time, deaths for memory",
        Owner.SLOT,
        "the execution's limits",
        "peaks are set back; a slot that holds more than a new one is thrown away",
        _tests(
            "test_what_the_one_before_used_is_not_counted_for_the_next "
            "test_tighter_limits_of_the_one_before_do_not_bind_the_next"
        ),
    ),
    State(
        "a share of the processors",
        Owner.SLOT,
        "one group of the scheduler's for each slot (`full`); RLIMIT_NICE and RLIMIT_RTPRIO are 0",
        _WITH_IT,
        _tests("test_each_guest_has_a_group_of_the_scheduler_however_many_sessions_it_has"),
    ),
    State(
        "pipe buffers, epoll watches, descriptors in flight",
        Owner.UID,
        "the kernel's own limits for each user",
        _WITH_IT,
        _tests("test_guest_has_a_host_uid_that_nobody_else_has"),
    ),
    State(
        "keyrings",
        Owner.UID,
        _REFUSED,
        "none are made",
        _tests("test_guest_is_refused_every_call_that_leads_out"),
    ),
    State(
        "inotify instances and watches",
        Owner.CREATOR,
        "`/proc/sys/user/max_inotify_*` of the namespaces: a part for each guest, at least 2 and 64",
        _WITH_IT,
        _tests("test_what_the_kernel_counts_by_user_is_left_to_the_host_and_to_other_guests"),
    ),
    State(
        "queued signals, timers",
        Owner.CREATOR,
        "RLIMIT_SIGPENDING: a part for each guest",
        _WITH_IT,
        _tests("test_what_the_kernel_counts_by_user_is_left_to_the_host_and_to_other_guests"),
    ),
    State(
        "locked memory",
        Owner.CREATOR,
        "RLIMIT_MEMLOCK: 64 KiB",
        _WITH_IT,
        _tests("test_every_resource_limit_is_set"),
    ),
    State(
        "user namespaces",
        Owner.CREATOR,
        "0, and the calls are refused",
        "none are made",
        _tests(
            "test_guest_cannot_make_a_namespace_with_clone test_guest_cannot_become_root_of_a_user_namespace_by_tools"
        ),
    ),
    State(
        "POSIX message queues",
        Owner.CREATOR,
        "refused, and RLIMIT_MSGQUEUE is 0",
        "none are made",
        _tests("test_guest_is_refused_every_call_that_leads_out"),
    ),
    State(
        "locks on files that are shown",
        Owner.INODE,
        "an overlay of the slot's own; without one refused; at `confined` kept by init",
        _WITH_IT,
        _tests(
            "test_a_lock_on_a_file_that_is_shown_is_seen_by_nobody_else "
            "test_a_confined_guests_locks_keep_its_own_processes_apart_and_lie_on_no_file "
            "test_a_confined_guest_has_no_lock_on_a_whole_file"
        ),
    ),
    State(
        "watches on files that are shown",
        Owner.INODE,
        "an overlay of the slot's own; without one, and at `confined`, refused",
        _WITH_IT,
        _tests("test_a_watch_sees_nothing_of_what_the_host_and_other_guests_do"),
    ),
    State(
        "leases, notification by signal",
        Owner.INODE,
        _REFUSED,
        "none are made",
        _tests("test_a_guest_has_no_lease_and_no_watch_by_signal"),
    ),
    State(
        "device nodes' inodes",
        Owner.INODE,
        "nodes of the slot's own, as root of the host; else the host's",
        _WITH_IT,
        _tests("test_a_lock_on_a_file_that_is_shown_is_seen_by_nobody_else"),
    ),
    State(
        "owners, modes, times, attributes of files that are shown",
        Owner.INODE,
        "read-only mounts, or Landlock; where the uid is shared init sets the guest's own alone; listed requests",
        "cannot change",
        _tests(
            "test_guest_cannot_write_outside_its_own_folders test_a_guest_has_no_request_to_a_file_that_is_not_listed "
            "test_a_confined_guest_sets_modes_and_times_of_its_own_files_alone"
        ),
    ),
    State(
        "files of a named workspace: content, modes, locks, watches",
        Owner.HOST,
        "the operator's own folder alone, as its owner: no set-uid bit, no device, no lease; the size of each file; "
        "all sessions of a workspace have one uid, and pid namespaces (at `confined` Landlock) keep them apart",
        "stays: that is what it is for",
        _tests(
            "test_what_a_session_writes_is_the_owners_own_and_stays test_no_rights_are_left_on_the_disk "
            "test_nothing_beside_the_folder_is_in_reach test_two_sessions_share_a_folder_and_nothing_else "
            "test_a_file_is_bounded_though_the_disk_is_large "
            "test_a_folder_that_was_replaced_is_refused_or_still_the_old_one"
        ),
    ),
    State(
        "the program file that a zygote runs (`/proc/self/exe`)",
        Owner.INODE,
        "a copy in the guest root that nobody may read",
        "cannot be opened",
        _tests("test_a_watch_sees_nothing_of_what_the_host_and_other_guests_do"),
    ),
    State(
        "places for asynchronous input and output",
        Owner.HOST,
        _REFUSED,
        "none are made",
        _tests("test_a_guest_takes_none_of_the_hosts_places_for_asynchronous_io"),
    ),
    State(
        "huge pages",
        Owner.HOST,
        _REFUSED,
        "none are taken",
        _tests("test_a_guest_takes_no_huge_page"),
    ),
    State(
        "pages that are shared for having one content",
        Owner.HOST,
        _REFUSED,
        "none are shared",
        _tests("test_a_command_that_reaches_what_others_have_is_refused"),
    ),
    State(
        "core dumps",
        Owner.HOST,
        "RLIMIT_CORE is 1 and cannot be changed; `doctor` warns of a pattern that is a socket",
        "none are made",
        _tests(
            "test_a_guest_cannot_change_its_limit_on_cores "
            "test_nobody_on_the_host_is_handed_a_guests_memory_when_it_crashes"
        ),
    ),
    State(
        "descriptors of processes (`pidfd_open`)",
        Owner.HOST,
        "a pid namespace; at `confined` refused",
        _WITH_IT,
        _tests("test_a_confined_guest_learns_nothing_of_other_processes_by_descriptors"),
    ),
    State(
        "facts in `/proc` and by `statvfs`",
        Owner.HOST,
        "hidden, as far as no program needs them; what is left is what a container sees",
        "cannot change",
        _tests(
            "test_a_guest_is_told_nothing_of_the_hosts_hardware_and_boot "
            "test_a_guest_is_told_no_path_and_no_size_of_the_hosts_disks"
        ),
    ),
    State(
        "caches of files and names, the kernel's log",
        Owner.HOST,
        "memory cgroup; the kernel's own rate limit",
        "not reset: what a cache shows by its timing is not defended",
        (),
    ),
)
