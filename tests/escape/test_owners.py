"""Whatever kinds of kernel state a guest touched, in whatever mixture: the next one in its slot finds all as new."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codex_server.sandboxes.kernel_state import KERNEL_STATE, Owner
from tests.escape.test_reuse import NETWORK, WORLD
from tests.tiers import examples

pytestmark = [pytest.mark.levels("full", "namespaces"), pytest.mark.embedded]

PRELUDE = """
import fcntl, resource, signal, socket, struct, subprocess, tempfile, threading, time
def try_(action, *arguments):
    try: return action(*arguments)
    except (OSError, ValueError): return None
signal.pthread_sigmask(signal.SIG_BLOCK, {40})  # before any thread is there, which would die of it
kept = []
def keep(thing): kept.append(thing); return thing
"""
TOUCHES = {
    "descriptors, memory, signal handlers, timers, umask, priority, affinity": """
        os.umask(0o77); os.nice(3); os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.setitimer(signal.ITIMER_REAL, 1000)
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)); keep(bytearray(20 << 20))
    """,
    "score for the out-of-memory killer, peak of memory": """
        for name in ("oom_score_adj", "clear_refs"): attempt(open, "/proc/self/" + name, "w")
    """,
    "random bytes of the program's start (`AT_RANDOM`)": "libc.getauxval(25)",
    "processes and threads, their numbers": """
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        if os.fork() == 0: os.setsid(); time.sleep(1000)
    """,
    "files in the workspace, `/tmp`, `/dev/shm`": """
        for folder in ("/workspace", "/tmp", "/dev/shm"):
            os.makedirs(folder + "/.a/b", exist_ok=True); open(folder + "/.a/c", "w").write("x" * 9999)
        os.symlink("/proc/self/mem", "/tmp/link"); os.mkfifo("/dev/shm/pipe"); os.chmod("/workspace", 0o700)
    """,
    "System V shared memory, semaphores, queues": """
        call("shmget", 77, 4096, 0o1666); call("semget", 77, 3, 0o1666); call("msgget", 77, 0o1666)
    """,
    "sockets of the Internet: ports, buffers, routes, connections that linger, flow labels": """
        server = keep(socket.create_server(("127.0.0.1", 0)))
        ours = keep(socket.create_connection(server.getsockname())); theirs, _ = server.accept()
        ours.sendall(b"x" * 9999); theirs.close()
        six = keep(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)); try_(six.sendto, b"x", ("::1", 9))
        wish = struct.pack("=16sIBBHHHI", socket.inet_pton(socket.AF_INET6, "::1"), 0, 0, 255, 1, 60, 60, 0)
        try_(six.setsockopt, 41, 32, wish)
        group = keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        try_(group.setsockopt, 0, 35, struct.pack("4s4s", socket.inet_aton("224.1.1.1"), socket.inet_aton("127.0.0.1")))
    """,
    "Unix sockets with an abstract name": """
        try_(keep(socket.socket(socket.AF_UNIX)).bind, "\\0left")
    """,
    "terminals: pairs, what waits in them, their settings": """
        try_(os.openpty); try_(os.open, "/dev/tty", os.O_RDWR); try_(os.open, "/dev/ptmx", os.O_RDWR)
    """,
    "mounts, host name": """
        call("mount", b"none", b"/tmp", b"tmpfs", 0, 0); call("sethostname", b"x", 1); call("umount2", b"/proc", 2)
    """,
    "what a cgroup counts: memory, CPU time, deaths for memory": "keep(bytearray(60 << 20)); sum(range(10 ** 6))",
    "a share of the processors": "call('sched_setscheduler', 0, 3, struct.pack('i', 0)); os.nice(1)",
    "pipe buffers, epoll watches, descriptors in flight": """
        for _ in range(5): keep(os.pipe())
        one, other = socket.socketpair(); socket.send_fds(one, [b"x"], [0]); keep((one, other))
    """,
    "keyrings": "call('add_key', b'user', b'left', b'x', 1, -3)",
    "inotify instances and watches": """
        while (watch := libc.inotify_init1(0)) >= 0: libc.inotify_add_watch(watch, b"/usr/bin", 0xFFF)
    """,
    "queued signals, timers": """
        signal.pthread_sigmask(signal.SIG_BLOCK, {40})
        info = struct.pack("iii", 40, 0, -1) + bytes(116)
        while call("rt_sigqueueinfo", os.getpid(), 40, info) == "done": pass
    """,
    "locked memory": "call('mlockall', 1); call('mlock', id(kept) & ~4095, 4096)",
    "user namespaces": "call('unshare', 0x10000000)",
    "POSIX message queues": "call('mq_open', b'left', os.O_RDWR | os.O_CREAT, 0o600, 0)",
    "locks on files that are shown": """
        for place in ("/usr/bin/env", "/etc/passwd", "/dev/null"):
            file = keep(open(place)); try_(fcntl.flock, file, fcntl.LOCK_EX); try_(fcntl.lockf, file, fcntl.LOCK_SH)
    """,
    "watches on files that are shown": """
        watch = libc.inotify_init1(0)
        for place in (b"/usr/bin", b"/", b"/etc/alternatives"): libc.inotify_add_watch(watch, place, 0xFFF)
    """,
    "leases, notification by signal": """
        for command in (1024, 1026): try_(fcntl.fcntl, keep(open("/usr/bin/env")), command, 1)
    """,
    "device nodes' inodes": "try_(fcntl.flock, keep(open('/dev/zero')), fcntl.LOCK_EX)",
    "owners, modes, times, attributes of files that are shown": """
        try_(os.chmod, "/usr/bin/env", 0o777); try_(os.utime, "/usr/bin/env"); try_(os.chown, "/etc/passwd", 1, 1)
        try_(os.utime, "/dev/null", (1, 1)); try_(os.setxattr, "/usr/bin/env", "user.left", b"x")
    """,
    "the program file that a zygote runs (`/proc/self/exe`)": "try_(open, '/proc/self/exe')",
}
"""How a guest touches each kind that is not the whole host's."""

LOCKS = """
    import fcntl
    def take(place):
        with open(place) as file: return attempt(fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    watches = 0
    while libc.inotify_init1(0) >= 0: watches += 1
    tell([[take(place) for place in ("/usr/bin/env", "/etc/passwd")], watches, open("/proc/net/ip6_flowlabel").read()])
"""
LOOKS = (WORLD, NETWORK, LOCKS)


def test_every_kind_that_is_not_the_whole_hosts_is_touched_here():
    assert set(TOUCHES) == {state.kind for state in KERNEL_STATE if state.owner is not Owner.HOST}


@pytest.fixture
def seen_first(harness):
    """What a guest finds where nobody was before it."""
    harness.settle()
    return [harness.python(look).told for look in LOOKS]


@settings(max_examples=examples(6), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(st.sampled_from(sorted(TOUCHES)), min_size=1, max_size=8, unique=True))
def test_the_next_guest_finds_what_the_first_one_found_whatever_was_touched(harness, seen_first, kinds):
    body = "".join(f"\nif True:\n{_indented(TOUCHES[kind])}" for kind in kinds)
    for look, first in zip(LOOKS, seen_first, strict=True):
        touched = harness.python(PRELUDE + body + "\nprint('touched', flush=True)\nos._exit(0)\n")
        assert (touched.stdout, touched.ending.exit_code) == ("touched\n", 0), (kinds, touched.stderr)
        assert json.loads(harness.python(look).stdout) == first, kinds


def _indented(code: str) -> str:
    lines = code.strip("\n").splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join("    " + line[margin:] for line in lines)
