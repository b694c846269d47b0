"""What a guest takes is bounded: processes, memory, descriptors, files, output, time; and all of it is gone afterwards."""
# ruff: noqa: E501 - the long lines are programs of guests

import resource

import pytest

from codex_server.sandboxes.base import IsolationLevel
from tests.escape.sandbox_harness import FLOOD
from tests.tiers import sampled

pytestmark = pytest.mark.inside

MIB = 2**20
TOO_MUCH = 256 * MIB

FORK_BOMBS = {
    "flat": "while True:\n    try: os.fork()\n    except OSError: pass",
    "recursive": "def bomb():\n    while True:\n        try:\n            if os.fork() == 0: bomb()\n        except OSError: pass\nbomb()",
    "dying": "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n    try:\n        if os.fork() == 0: os._exit(0)\n    except OSError: pass",
    "vfork": "import subprocess\nwhile True:\n    try: subprocess.Popen(['sleep', '100'], close_fds=False)\n    except OSError: pass",
    "ignoring": "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True:\n    try: os.fork() or os.setsid()\n    except OSError: pass",
}


@pytest.mark.parametrize("kind", sampled(FORK_BOMBS))
def test_a_fork_bomb_is_bounded_and_dies(harness, kind):
    seen = harness.python(FORK_BOMBS[kind], wall_seconds=1, processes=16)
    assert seen.status == "timed_out"


@pytest.mark.tier("change")
def test_a_bash_fork_bomb_is_bounded_and_dies(harness):
    seen = harness.bash("bomb() { bomb | bomb & }; bomb; while :; do :; done", wall_seconds=1, processes=16)
    assert seen.status == "timed_out"


@pytest.mark.levels("full", "namespaces")
def test_the_number_of_processes_is_bounded(harness):
    seen = harness.python(
        """
        import time
        count = 0
        try:
            while count < 400:
                if os.fork() == 0: time.sleep(30); os._exit(0)
                count += 1
        except OSError as error: tell([count, errno.errorcode[error.errno]])
        """,
        processes=10,
    )
    count, answer = seen.told
    assert answer == "EAGAIN"
    assert count <= (10 if harness.level is IsolationLevel.FULL else 200)


def test_threads_are_bounded(harness):
    seen = harness.python(
        """
        import threading, time
        count = 0
        try:
            while count < 1000:
                threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
                count += 1
        except RuntimeError: pass
        print(count, flush=True)
        os._exit(0)
        """,
        processes=10,
    )
    assert 0 < int(seen.stdout) < (10 if harness.level is IsolationLevel.FULL else 200)


def test_zombies_and_orphans_leave_nothing(harness):
    seen = harness.python("""
        for _ in range(20):
            if os.fork() == 0:
                if os.fork() == 0: os._exit(0)
                os._exit(0)
        print("left them")
    """)
    assert (seen.status, seen.stdout) == ("succeeded", "left them\n")


def test_a_daemon_that_ignores_every_signal_is_dead_afterwards(harness):
    seen = harness.python("""
        import signal, time
        read, write = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in range(1, 65):
                    try: signal.signal(number, signal.SIG_IGN)
                    except (OSError, ValueError): pass
                os.write(write, b"up")
                for number in (0, 1, 2): os.close(number)
                while True: time.sleep(0.01)
            os._exit(0)
        os.wait()
        os.read(read, 2)
        print("parent is done")
    """)
    assert (seen.status, seen.stdout) == ("succeeded", "parent is done\n")


def test_a_daemon_that_holds_the_streams_does_not_hold_the_answer(harness):
    seen = harness.python("""
        import time
        if os.fork() == 0:
            os.setsid()
            while True: time.sleep(1)
        print("parent is done")
    """)
    assert (seen.status, seen.stdout) == ("succeeded", "parent is done\n")
    assert seen.ending.wall_seconds < 10


@pytest.mark.tier("change")
@pytest.mark.parametrize(
    "program",
    [
        "import signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "import signal; os.kill(0, signal.SIGSTOP)",
        "import signal; os.fork(); os.kill(0, signal.SIGSTOP)",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
        "import time\nwhile True:\n    try: time.sleep(100)\n    except BaseException: pass",
        "import subprocess\nwhile True:\n    try: subprocess.run(['true'])\n    except OSError: pass",
        "while True:\n    try: pid = os.fork()\n    except OSError: continue\n    os.waitpid(pid, 0) if pid else os._exit(0)",
    ],
    ids=[
        "stops itself",
        "stops its group",
        "stops all",
        "blocks signals",
        "catches everything",
        "starts children",
        "forks on",
    ],
)
def test_wall_time_cannot_be_dodged(harness, program):
    seen = harness.python(program, wall_seconds=1, processes=16)
    assert seen.status == "timed_out"
    assert 0.9 < seen.ending.wall_seconds < 10


def test_processor_time_burnt_by_children_counts(harness):
    seen = harness.python(
        """
        import time
        for _ in range(20):
            if os.fork() == 0:
                while time.process_time() < 0.5: pass
                os._exit(0)
            os.wait()
        """,
        cpu_seconds=1,
        wall_seconds=15,
    )
    assert seen.status == "timed_out"
    assert seen.ending.stop == "cpu_time"


@pytest.mark.tier("change")
@pytest.mark.levels("full")
def test_processor_time_of_children_that_nobody_waits_for_counts(harness):
    seen = harness.python(
        """
        import signal, time
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for _ in range(20):
            if os.fork() == 0:
                while time.process_time() < 0.5: pass
                os._exit(0)
            try: os.wait()
            except ChildProcessError: pass
        """,
        cpu_seconds=1,
        wall_seconds=15,
    )
    assert seen.status == "timed_out"
    assert seen.ending.stop == "cpu_time"


@pytest.mark.tier("change")
def test_limits_are_looked_at_however_busy_the_init_is_kept(harness):
    seen = harness.python(
        """
        import signal, time
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            while True:  # its grandchildren die in the arms of init
                attempt(os.kill, 1, signal.SIGCHLD)
                if os.fork() == 0:
                    if os.fork() == 0: os._exit(0)
                    os._exit(0)
                time.sleep(0.01)
        if os.fork() == 0:
            while time.process_time() < 30: pass
        time.sleep(60)
        """,
        cpu_seconds=2,
        wall_seconds=30,
    )
    assert seen.status == "timed_out"
    assert seen.ending.stop == "cpu_time"


MEMORY_BOMBS = {
    "anonymous": f"kept = bytearray({TOO_MUCH})",
    "shared map": f"import mmap, time\nkept = mmap.mmap(-1, {TOO_MUCH})\nfor place in range(0, {TOO_MUCH}, 4096): kept[place] = 1\ntime.sleep(30)",
    "undumpable": f"import mmap, time\nlibc.prctl(4, 0, 0, 0, 0)\nkept = mmap.mmap(-1, {TOO_MUCH})\nfor place in range(0, {TOO_MUCH}, 4096): kept[place] = 1\ntime.sleep(30)",
}
ONLY_A_CGROUP_SEES = {
    "memfd": "import time\nkept = [os.memfd_create(str(n)) for n in range(20)]\nfor fd in kept:\n    for _ in range(16): os.write(fd, bytes(1 << 20))\ntime.sleep(30)",
    "sysv": "import time\nlibc.shmat.restype = ctypes.c_void_p\nfor _ in range(10):\n    place = libc.shmat(libc.shmget(0, 30 << 20, 0o1600), None, 0)\n    ctypes.memset(place, 1, 30 << 20); libc.shmdt(ctypes.c_void_p(place))\ntime.sleep(30)",
    "madvised map": f"import mmap, time\nkept = mmap.mmap(-1, {TOO_MUCH})\nfor place in range(0, {TOO_MUCH}, 1 << 20):\n    kept[place:place + (1 << 20)] = bytes(1 << 20); kept.madvise(mmap.MADV_DONTNEED, place, 1 << 20)\ntime.sleep(30)",
}
ON_TMPFS = {
    "workspace": "for n in range(9):\n    with open(f'f{n}', 'wb') as file:\n        for _ in range(30): file.write(bytes(1 << 20))\nimport time; time.sleep(30)",
    "all folders": "import time\nfor folder in ('/workspace', '/tmp', '/dev/shm'):\n    for n in range(2):\n        with open(f'{folder}/f{n}', 'wb') as file:\n            for _ in range(30): file.write(bytes(1 << 20))\ntime.sleep(30)",
}


@pytest.mark.parametrize("kind", MEMORY_BOMBS)
def test_a_memory_bomb_is_bounded(harness, kind):
    seen = harness.python(MEMORY_BOMBS[kind], memory_bytes=96 * MIB, wall_seconds=10)
    if kind == "anonymous" and harness.level is not IsolationLevel.FULL:  # RLIMIT_DATA counts that kind, and refuses it
        assert (seen.status, seen.stderr.splitlines()[-1]) == ("failed", "MemoryError"), seen
    else:
        assert seen.status == "memory_exceeded", seen


@pytest.mark.tier("change")
def test_memory_of_many_children_is_bounded_together(harness):
    seen = harness.python(
        f"""
        import time
        for _ in range(8):
            if os.fork() == 0:
                kept = bytearray({TOO_MUCH} // 8)
                time.sleep(30)
        time.sleep(2)
        """,
        memory_bytes=96 * MIB,
        wall_seconds=10,
    )
    if harness.level is IsolationLevel.FULL:  # the kernel kills child after child, until the rest fits
        assert seen.status == "succeeded", seen
        assert 0 < seen.ending.oom_kills < 8, seen
    else:
        assert (seen.status, seen.ending.stop) == ("memory_exceeded", "memory"), seen


@pytest.mark.levels("full")
@pytest.mark.parametrize("kind", ONLY_A_CGROUP_SEES)
def test_memory_that_no_process_shows_is_bounded(harness, kind):
    seen = harness.python(ONLY_A_CGROUP_SEES[kind], memory_bytes=96 * MIB, wall_seconds=10)
    assert seen.status == "memory_exceeded", seen


@pytest.mark.levels("full", "namespaces")
@pytest.mark.parametrize("kind", ON_TMPFS)
def test_files_count_as_memory(harness, kind):
    seen = harness.python(ON_TMPFS[kind], memory_bytes=96 * MIB, wall_seconds=10)
    if kind == "workspace":  # it alone is smaller than the memory, and full first
        assert seen.status == "failed", seen
        assert "No space left on device" in seen.stderr
    else:
        assert seen.status == "memory_exceeded", seen


@pytest.mark.tier("change")
@pytest.mark.levels("full", "namespaces")
def test_disk_and_inodes_are_bounded(harness):
    seen = harness.python("""
        answers = []
        for folder in ("/workspace", "/tmp", "/dev/shm"):
            def fill():
                for n in range(100_000): open(f"{folder}/empty{n}", "x").close()
            answers.append(attempt(fill))
        def large():
            for n in range(100):
                with open(f"/tmp/large{n}", "wb") as file: file.write(bytes(8 << 20))
        for n in range(100_000):
            if attempt(os.unlink, f"/tmp/empty{n}") != "done": break
        answers.append(attempt(large))
        tell(answers)
    """)
    assert seen.told == ["ENOSPC"] * 4


def test_every_resource_limit_is_set(harness):
    seen = harness.python(
        """
        import resource
        names = ("CPU", "FSIZE", "CORE", "NOFILE", "STACK", "MEMLOCK", "DATA", "NPROC", "MSGQUEUE", "NICE", "RTPRIO", "SIGPENDING")
        tell({name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names})
        """,
        cpu_seconds=7.5,
        file_bytes=4 * MIB,
        memory_bytes=96 * MIB,
        processes=10,
    ).told
    signals = seen.pop("SIGPENDING")
    assert signals[0] == signals[1]
    assert 0 < signals[0] < resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]
    processes = seen.pop("NPROC")
    assert processes[0] == processes[1]
    assert 10 <= processes[0] < 10_000
    counted = harness.level is IsolationLevel.FULL
    assert seen == {
        "CPU": [9, 10],
        "FSIZE": [4 * MIB] * 2,
        "CORE": [1, 1],
        "NOFILE": [1024, 1024],
        "STACK": [8 * MIB, 64 * MIB],
        "MEMLOCK": [65_536] * 2,
        **{name: [0, 0] for name in ("MSGQUEUE", "NICE", "RTPRIO")},
        "DATA": [resource.RLIM_INFINITY if counted else 96 * MIB] * 2,
    }


def test_a_file_cannot_grow_beyond_its_limit(harness):
    seen = harness.python(
        """
        def grow():
            with open("large", "wb", buffering=0) as file:
                while True: file.write(bytes(1 << 20))
        tell([attempt(grow), os.path.getsize("large") <= 4 << 20, attempt(os.truncate, "large", 1 << 40)])
        """,
        file_bytes=4 * MIB,
    )
    assert seen.told == ["EFBIG", True, "EFBIG"]


def test_descriptors_are_bounded(harness):
    seen = harness.python("""
        kept = []
        def hoard():
            while True: kept.append(os.open("/dev/null", os.O_RDONLY))
        answer = attempt(hoard)
        for fd in kept: os.close(fd)
        tell([answer, len(kept)])
    """)
    assert seen.told == ["EMFILE", 1024 - 3]


def test_hoarded_pipes_are_bounded(harness):
    seen = harness.python(
        """
        import fcntl
        held = 0
        kept = []
        def hoard():
            global held
            while True:
                read, write = os.pipe(); kept.append((read, write)); os.set_blocking(write, False)
                try: fcntl.fcntl(write, 1031, 1 << 20)
                except OSError: pass
                held += os.write(write, bytes(1 << 20))
        answer = attempt(hoard)
        print(answer, held >> 20, flush=True)
        """,
        memory_bytes=96 * MIB,
    )
    assert seen.status == "succeeded", seen
    answer, held = seen.stdout.split()
    assert answer == "EMFILE"
    assert 0 < int(held) <= 96  # after 64 MiB of an account's pipes (fs.pipe-user-pages-soft) each holds little


FLOODS = {
    "stdout": "while True: os.write(1, b'x' * 65536)",
    "stderr": "while True: os.write(2, b'x' * 65536)",
    "both": "import threading\nfor fd in (1, 2):\n    threading.Thread(target=lambda fd=fd: [os.write(fd, b'x' * 65536) for _ in iter(int, 1)]).start()",
    "children": "for _ in range(3): os.fork()\nwhile True: os.write(1, b'x' * 65536)",
    "lines": "while True: print('x' * 100)",
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_output_is_stopped(harness, kind):
    seen = harness.python(FLOODS[kind], wall_seconds=15)
    assert seen.status == "output_exceeded"
    assert FLOOD < len(seen.stdout) + len(seen.stderr) < FLOOD + 4 * MIB


def test_a_flood_from_a_program_that_ends_at_once_is_stopped_or_whole(harness):
    seen = harness.python("os.write(1, b'x' * 60_000); os._exit(3)")
    assert (len(seen.stdout), seen.ending.exit_code) == (60_000, 3)


def test_stdin_that_is_never_read_does_not_hold_the_answer(harness):
    seen = harness.python("print('done')", stdin=b"x" * (8 * MIB))
    assert (seen.status, seen.stdout) == ("succeeded", "done\n")


def test_stdin_that_is_closed_early_does_not_hold_the_answer(harness):
    seen = harness.python("os.read(0, 1); os.close(0); print('done')", stdin=b"x" * (8 * MIB))
    assert (seen.status, seen.stdout) == ("succeeded", "done\n")


def test_large_stdin_arrives_whole(harness):
    seen = harness.python("tell(len(sys.stdin.buffer.read()))", stdin=b"x" * (8 * MIB))
    assert seen.told == 8 * MIB
