"""Kernel state behind what a guest can name: it reaches no inode, no counter and no pool of the host.

Each test has a host side that looks, as somebody on the host would feel it.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from tests.escape.sandbox_harness import PRELUDE, Sink
from tests.tiers import sampled
from tests.waiting import until

IN_A_ROOM = ("full", "namespaces")


def test_a_guest_cannot_change_its_limit_on_cores(harness):
    """Exactly 1 keeps the kernel from handing a program's memory to a core_pattern that is a program."""
    seen = harness.python("""
        import resource, struct
        def limit(*pair): return attempt(resource.setrlimit, resource.RLIMIT_CORE, pair)
        new = struct.pack("QQ", 0, 1)
        answers = [call("setrlimit", 4, new)] + [call("prlimit64", pid, 4, new, 0) for pid in (0, os.getpid())]
        try: answers.append(limit(0, 1))
        except ValueError as error: answers.append("EPERM" if "not allowed" in str(error) else str(error))
        tell([answers, resource.getrlimit(resource.RLIMIT_CORE)])
    """)
    assert seen.told == [["EPERM"] * 4, [1, 1]]


CORE_PATTERN = "/proc/sys/kernel/core_pattern"
CORE_READER = """#!{python}
import sys
size = len(sys.stdin.buffer.read())
open({found!r}, "a").write(str(size) + "\\n")
"""


@pytest.fixture
def core_handler():
    """A core_pattern that is a program: the file in which it notes how much of a program it was handed.

    There is one pattern for the whole host, so the levels take turns.
    """
    if os.geteuid() != 0:
        pytest.skip("only root may set the host's core_pattern")
    with open(CORE_PATTERN, "r+") as pattern, tempfile.TemporaryDirectory(prefix="core-") as folder:
        fcntl.flock(pattern, fcntl.LOCK_EX)
        before = pattern.read()
        found, reader = Path(folder, "found"), Path(folder, "reader")
        Path(folder).chmod(0o755)
        reader.write_text(CORE_READER.format(python=sys.executable, found=str(found)))
        reader.chmod(0o755)
        Path(CORE_PATTERN).write_text(f"|{reader}")
        yield found
        Path(CORE_PATTERN).write_text(before)


def test_nobody_on_the_host_is_handed_a_guests_memory_when_it_crashes(harness, core_handler):
    seen = harness.python("""
        import resource, struct
        for pair in ((0, 1), (0, 0)):
            call("setrlimit", 4, struct.pack("QQ", *pair))
            try: resource.setrlimit(resource.RLIMIT_CORE, pair)
            except (OSError, ValueError): pass
        os.abort()
    """)
    assert seen.ending.signal == 6
    subprocess.run([sys.executable, "-c", "import os; os.abort()"], check=False, preexec_fn=_allow_cores)
    assert until(core_handler.exists, 10), "the handler is never called at all"
    assert until(lambda: not _runs(core_handler.with_name("reader")), 10)
    assert len(core_handler.read_text().splitlines()) == 1


def _runs(program: Path) -> bool:
    lines = (Path(f"/proc/{name}/cmdline") for name in os.listdir("/proc") if name.isdigit())
    return any(str(program).encode() in _content(line) for line in lines)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _allow_cores() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)


def test_a_guest_has_no_lease_and_no_watch_by_signal(harness):
    seen = harness.python("""
        import fcntl
        library = os.open("/usr/bin/env", os.O_RDONLY)
        own = os.open(os.environ["TMPDIR"] + "/own", os.O_RDONLY | os.O_CREAT)
        tell([attempt(fcntl.fcntl, file, command, 1) for file in (library, own) for command in (1024, 1026)])
    """)
    assert seen.told == ["EPERM"] * 4


def test_a_guest_takes_none_of_the_hosts_places_for_asynchronous_io(harness):
    seen = harness.python("""
        contexts = [call("io_setup", 1024, ctypes.create_string_buffer(8)) for _ in range(100)]
        tell(sorted(set(contexts)))
    """)
    assert seen.told == ["EPERM"]


@pytest.mark.parametrize("way", sampled(["mmap", "memfd", "shm"]))
def test_a_guest_takes_no_huge_page(harness, way):
    asked = {
        "mmap": 'call("mmap", 0, 2 << 20, 3, 0x40022, -1, 0)',
        "memfd": 'call("memfd_create", b"x", 4)',
        "shm": 'call("shmget", 7, 2 << 20, 0o4000 | 0o1600)',
    }
    assert harness.python(f"tell({asked[way]})").told == "EPERM"


@pytest.mark.levels("confined")
def test_a_confined_guest_learns_nothing_of_other_processes_by_descriptors(harness, host):
    seen = harness.python(f"tell([call('pidfd_open', pid, 0) for pid in ({host.victim.pid}, {os.getpid()}, 1)])")
    assert seen.told == ["EPERM"] * 3


def test_a_guest_has_no_request_to_a_file_that_is_not_listed(harness):
    """Attributes of files, facts of a process, clones of extents."""
    requests = (0x4008_6602, 0x4004_6602, 0x401C_5820, 0x4008_7602, 0x4004_9409, 0xC040_FF0B, 0xFF01)
    seen = harness.python(f"""
        import fcntl
        files = [os.open("/usr/bin/env", os.O_RDONLY), os.open("/usr/bin", os.O_RDONLY)]
        tell(sorted({{attempt(fcntl.ioctl, file, request, bytes(64)) for file in files for request in {requests!r}}}))
    """)
    assert seen.told == ["ENOTTY"]


@pytest.mark.levels(*IN_A_ROOM)
def test_a_guest_makes_no_flow_label(harness):
    seen = harness.python("""
        import socket, struct
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            wish = struct.pack("=16sIBBHHHI", socket.inet_pton(socket.AF_INET6, "::1"), 0, 0, 255, 1, 60, 60, 0)
            tell([attempt(sender.setsockopt, 41, 32, wish), open("/proc/net/ip6_flowlabel").read().count(chr(10))])
    """)
    assert seen.told == ["EPERM", 1]


SHOWN = ("/usr/bin", "/etc/alternatives", "/opt/runners/bash", "/usr/lib/python3/dist-packages")
WATCHER = """
    import time
    IN_ALL = 0xFFF
    watch = libc.inotify_init1(os.O_NONBLOCK)
    places = [place for place in {places!r} if os.path.exists(place)]
    added = [libc.inotify_add_watch(watch, place.encode(), IN_ALL) >= 0 for place in places]
    print("ready", flush=True)
    time.sleep(2)
    try: heard = os.read(watch, 65536)
    except BlockingIOError: heard = b""
    own = libc.inotify_init1(os.O_NONBLOCK)
    libc.inotify_add_watch(own, b"/workspace", IN_ALL)
    open("/workspace/own", "w").close()
    tell([sum(added), len(heard), len(os.read(own, 65536)) > 0])
"""


@pytest.mark.levels(*IN_A_ROOM)
@pytest.mark.embedded
def test_a_watch_sees_nothing_of_what_the_host_and_other_guests_do(harness):
    """On the host's own inode each opening of a file below it would be told, by its name."""
    code = WATCHER.format(places=(*SHOWN, "/proc/self/exe", "/"))
    seen = harness.disturbed(code, "ready", lambda _: _use_what_is_shown(harness))
    added, heard, own = json.loads(seen.stdout.splitlines()[-1])
    assert added >= 3
    assert (heard, own) == (0, True)


async def _use_what_is_shown(harness):
    for place in filter(os.path.isdir, SHOWN):
        for name in os.listdir(place)[:5]:
            await asyncio.to_thread(_read, os.path.join(place, name))
    await harness._run("bash", "cat /usr/bin/env > /dev/null; ls / /usr/bin /etc/alternatives", {}, Sink())


def _read(place):
    with contextlib.suppress(OSError):
        Path(place).read_bytes()


NODES = ("/dev/null", "/dev/zero") if os.geteuid() == 0 else ()
"""Device nodes of a slot's own are made by root alone; elsewhere they are the host's (SECURITY.md)."""
LOCKABLE = ("/usr/bin/env", "/proc/self/exe", *NODES, "/etc/passwd", "/etc/localtime", "/usr/bin")
LOCK = (
    f"""
    PLACES = {LOCKABLE!r}
"""
    + """
    import fcntl, struct, time
    def lock(file, start, size):
        return attempt(fcntl.fcntl, file, fcntl.F_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, start, size, 0))
    library = next(line.split()[-1] for line in open("/proc/self/maps") if "/libc" in line)
    files = {}
    for place in (library, *PLACES):
        try: files[place] = os.open(place, os.O_RDONLY)
        except OSError: pass
    answers = {attempt(fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB) for file in files.values()}
    answers |= {lock(file, 0, 100) for place, file in files.items()}
"""
)


@pytest.mark.levels(*IN_A_ROOM)
def test_a_lock_on_a_file_that_is_shown_is_seen_by_nobody_else(harness):
    """Neither by the host nor by another guest, however many there are."""
    many = """
    for byte in range(200, 8200, 2): lock(files[library], byte, 1)
    print("ready", flush=True)
    time.sleep(2)
    tell([len(files), sorted(answers)])
    """
    found, before = {}, _locks_on_the_host()

    async def look(_):
        found["host"] = _locks_on_the_host() - before
        found["guest"] = await harness._run(
            "python", PRELUDE + textwrap.dedent(LOCK + "    tell(sorted(answers))"), {}, Sink()
        )

    seen = harness.disturbed(LOCK + many, "ready", look)
    count, answers = json.loads(seen.stdout.splitlines()[-1])
    assert count >= 4
    assert answers == ["done"]
    assert found["guest"].told == ["done"]
    assert found["host"] == set()


def _locks_on_the_host():
    """Locks that the host's kernel knows on the files that guests are shown, by their inodes there."""
    libraries = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc" in line}
    inodes = {}
    for place in (*libraries, sys.executable, *LOCKABLE):
        with contextlib.suppress(OSError):
            status = os.stat(place)
            inodes[f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"] = place
    lines = (tuple(line.split()[1:]) for line in Path("/proc/locks").read_text().splitlines())
    return {line for line in lines if inodes.keys() & set(line)}


@pytest.mark.levels("confined")
def test_a_confined_guest_has_no_lock_on_a_whole_file(harness):
    seen = harness.python("""
        import fcntl
        files = [os.open(place, os.O_RDONLY) for place in ("/usr/bin/env", "/dev/null")]
        tell([attempt(fcntl.flock, file, fcntl.LOCK_EX) for file in files])
    """)
    assert seen.told == ["ENOSYS"] * 2


@pytest.mark.levels(*IN_A_ROOM)
@pytest.mark.embedded
def test_a_guest_writes_nothing_of_itself_into_proc(harness):
    """The peak of its memory is its supervisor's to count, and who dies first for memory the supervisor's to say."""
    seen = harness.python("""
        kept = bytearray(200 << 20); kept[::4096] = b"x" * len(kept[::4096])
        del kept
        def write(name, text):
            with open(f"/proc/self/{name}", "w") as file: file.write(text)
        names = {"clear_refs": "5", "oom_score_adj": "0", "coredump_filter": "0x7f", "timerslack_ns": "1", "comm": "x"}
        answers = sorted({attempt(write, name, text) for name, text in names.items()})
        tell([answers, open("/proc/self/oom_score_adj").read()])
    """)
    assert seen.told == [["EROFS"], "1000\n"]
    assert seen.ending.peak_memory_bytes > 200 << 20


@pytest.mark.levels(*IN_A_ROOM)
def test_a_guest_is_told_nothing_of_the_hosts_hardware_and_boot(harness):
    seen = harness.python("""
        def inside(place):
            try: return len(os.listdir(place)) if os.path.isdir(place) else len(open(place).read())
            except OSError: return 0
        hidden = "acpi bus driver fs irq scsi cmdline interrupts partitions diskstats modules".split()
        boot = "/proc/sys/kernel/random/boot_id"
        tell([{place: inside("/proc/" + place) for place in hidden}, open(boot).read() if os.path.exists(boot) else ""])
    """)
    hidden, boot_id = seen.told
    assert set(hidden.values()) == {0}
    assert boot_id != Path("/proc/sys/kernel/random/boot_id").read_text()


@pytest.mark.levels(*IN_A_ROOM)
@pytest.mark.embedded
def test_a_program_that_looks_for_its_own_file_finds_it_by_its_number(harness):
    """V8 does, and copies 2 MiB where it is not found."""
    seen = harness.run(
        "javascript",
        """
        const fs = require("fs"), maps = fs.readFileSync("/proc/self/maps", "utf8").split("\\n");
        const own = maps.filter((line) => line.endsWith(process.execPath)).map((line) => line.split(/ +/).slice(3, 5));
        const { dev, ino } = fs.statSync(process.execPath, { bigint: true });
        const parts = [dev >> 8n & 0xfffn, dev & 0xffn | dev >> 12n & 0xfff00n];  // as makedev(3) puts them together
        const place = parts.map((part) => part.toString(16).padStart(2, "0")).join(":");
        console.log(JSON.stringify([own.length > 0, own.every(([at, number]) => at === place && number === String(ino)),
                                    ino < 2n ** 63n]));
        """,
    )
    assert seen.told[0]
    if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 8):  # before, /proc/self/maps names the lower file
        assert seen.told == [True, True, True]


@pytest.mark.levels(*IN_A_ROOM)
@pytest.mark.embedded
def test_a_guest_is_told_no_path_and_no_size_of_the_hosts_disks(harness):
    seen = harness.python("""
        mounts = open("/proc/self/mountinfo").read()
        usage = os.statvfs("/usr")
        tell([mounts, usage.f_blocks * usage.f_frsize])
    """)
    mounts, size = seen.told
    assert size != os.statvfs("/usr").f_blocks * os.statvfs("/usr").f_frsize
    for place in (str(Path(__file__).parents[2]), sys.prefix, *(str(lang.folder) for lang in harness.languages)):
        assert place not in mounts


@pytest.mark.levels(*IN_A_ROOM)
@pytest.mark.embedded
def test_what_the_kernel_counts_by_user_is_left_to_the_host_and_to_other_guests(harness):
    """Watches and queued signals: a guest that takes all it gets leaves root, the account and its neighbours theirs."""
    greedy = """
        import signal, time
        signal.pthread_sigmask(signal.SIG_BLOCK, {40})
        watches, signals = 0, 0
        while libc.inotify_init1(0) >= 0: watches += 1
        while call("rt_sigqueueinfo", os.getpid(), 40, SIGINFO) == "done": signals += 1
        print(json.dumps([watches, signals]), "ready", flush=True)
        time.sleep(2)
    """
    info = (
        "    SIGINFO = (40).to_bytes(4, 'little') + bytes(4) + (-1 & 0xFFFFFFFF).to_bytes(4, 'little') + bytes(116)\n"
    )
    modest = "    signal = 40; tell([libc.inotify_init1(0) >= 0, call('rt_sigqueueinfo', os.getpid(), 17, SIGINFO)])"
    found = {}

    async def look(_):
        found["host"] = await asyncio.to_thread(_take_counted)
        found["guest"] = await harness._run("python", PRELUDE + textwrap.dedent(info + modest), {}, Sink())

    seen = harness.disturbed(info + textwrap.indent(textwrap.dedent(greedy), "    "), "ready", look)
    watches, signals = json.loads(seen.stdout.partition("ready")[0])
    assert (watches > 0, signals > 0) == (True, True)
    assert signals < 96_000
    assert found["host"] == "8 watches, 64 signals"
    assert found["guest"].told[0] is (os.geteuid() == 0)  # guests that share one id share its part too


TAKE_COUNTED = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
signal.pthread_sigmask(signal.SIG_BLOCK, {40})
watches = sum(libc.inotify_init1(0) >= 0 for _ in range(8))
signals = sum(libc.sigqueue(os.getpid(), 40, ctypes.c_void_p(0)) == 0 for _ in range(64))
print(watches, "watches,", signals, "signals")
"""


def _take_counted() -> str:
    """What the server's account can have of both, at the same time."""
    return subprocess.run(
        [sys.executable, "-c", TAKE_COUNTED], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.levels(*IN_A_ROOM)
@pytest.mark.embedded
def test_as_root_guests_are_charged_to_an_id_that_nobody_else_has(harness, host):
    if os.geteuid() != 0:
        pytest.skip("an account's sandboxes are its own")

    async def owner_of_the_room() -> int:
        sandbox = await harness.arm("python")
        try:
            pid = _pid_behind(sandbox.slot.pidfd)
            namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
            owner = bytearray(4)
            fcntl.ioctl(namespace, 0xB704, owner)  # NS_GET_OWNER_UID
            os.close(namespace)
            return int.from_bytes(owner, sys.byteorder)
        finally:
            await sandbox.destroy()

    first = int(harness.settings.guest_ids.partition(":")[0])
    assert harness.wait(owner_of_the_room()) == first


def _pid_behind(pidfd: int) -> int:
    lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))


def test_two_guests_are_given_different_random_bytes_by_the_kernel(harness):
    code = """
        libc.getauxval.restype = ctypes.c_ulong
        tell(ctypes.string_at(libc.getauxval(25), 16).hex())
    """
    assert harness.python(code).told != harness.python(code).told


FILL_SOCKETS = """
    import socket, time
    server = socket.create_server(("127.0.0.1", 0), backlog=500)
    pairs, sent = [], 0
    for _ in range(400):
        ours = socket.create_connection(server.getsockname()); theirs, _ = server.accept()
        ours.setblocking(False)
        pairs.append((ours, theirs))
        try:
            while True: sent += ours.send(bytes(1 << 16))
        except BlockingIOError: pass
        if sent > 600 << 20: break
    time.sleep(0.5)
    print(sent, flush=True)
"""


@pytest.mark.levels(*IN_A_ROOM)
def test_memory_in_sockets_that_nobody_reads_is_bounded_and_told(harness):
    seen = harness.python(FILL_SOCKETS, memory_bytes=96 << 20, wall_seconds=10)
    if seen.status == "succeeded":  # the kernel took no more
        assert int(seen.stdout) < 160 << 20
        assert seen.ending.peak_memory_bytes > 48 << 20
    else:
        assert seen.status in ("memory_exceeded", "timed_out")


@pytest.mark.levels(*IN_A_ROOM)
@pytest.mark.embedded
def test_a_network_in_which_a_socket_was_made_is_replaced_whatever_it_counted(harness):
    """A socket that was only made leaves no count behind, and yet could have left state."""
    name = "tell(os.readlink('/proc/self/ns/net'))"
    first = harness.python(name).told
    assert harness.python(name).told == first
    for family in ("AF_INET", "AF_INET6", "AF_NETLINK"):
        made = f"import socket; socket.socket(socket.{family}, socket.SOCK_DGRAM); {name}"
        before = harness.python(made).told
        slot = harness.last_slot
        assert harness.python(name).told != before
        assert harness.last_slot is slot
    local = harness.python(f"import socket; socket.socketpair(); socket.socket(socket.AF_UNIX); {name}").told
    assert harness.python(name).told == local


@pytest.mark.levels(*IN_A_ROOM)
def test_what_waits_in_sockets_of_the_routing_table_is_bounded(harness):
    """The kernel charges it to nobody: init bounds the number of sockets; in a container it looks at what waits."""
    seen = harness.python(
        """
        import socket, struct, time
        ask = struct.pack("=IHHIIBxHiII", 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0)  # all links
        made = []
        try:
            while len(made) < 1000: made.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
        except OSError as error: print(errno.errorcode[error.errno], len(made), flush=True)
        for one in made:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 30)
            one.setblocking(False)
            for _ in range(3000): attempt(one.send, ask)
        print(sum(int(line.split()[4]) for line in open("/proc/net/netlink").readlines()[1:]))
        time.sleep(0.5)
        """,
        memory_bytes=96 << 20,
        wall_seconds=10,
    )
    if harness.in_container:
        assert seen.status in ("memory_exceeded", "timed_out")
    else:
        assert seen.stdout.startswith("EMFILE 32\n")
        assert seen.status in ("succeeded", "memory_exceeded", "timed_out")  # by what net.core.rmem_max allows


@pytest.mark.levels("full")
@pytest.mark.embedded
def test_each_guest_has_a_group_of_the_scheduler_however_many_sessions_it_has(harness):
    """The scheduler gives each session a share of its own, unless a group holds them all."""

    async def groups() -> list[str]:
        sandboxes = [await harness.arm("python") for _ in range(2)]
        try:
            return [_processor_group(_pid_behind(sandbox.slot.pidfd)) for sandbox in sandboxes]
        finally:
            for sandbox in sandboxes:
                await sandbox.destroy()

    found = harness.wait(groups())
    if not _processor_group(os.getpid()):
        pytest.skip("this host has no controller of the processors")
    assert all("/codex-server-" in group and "/slot-" in group for group in found)
    assert len(set(found)) == 2


def _processor_group(pid: int) -> str:
    """The cgroup that the scheduler counts a process to: of version 1 where that has the controller, else of 2."""
    rows = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    first = next((path for _, names, path in rows if "cpu" in names.split(",")), None)
    return first or next((path for _, names, path in rows if names == ""), "")


@pytest.mark.levels("confined")
def test_a_confined_guests_locks_keep_its_own_processes_apart_and_lie_on_no_file(harness):
    before = _locks_on_the_host()
    found = {}

    async def look(_):
        found["host"] = _locks_on_the_host() - before

    seen = harness.disturbed(CONFINED_LOCKS, "ready", look)
    assert json.loads(seen.stdout.splitlines()[-1]) == {
        "own": ["done", "done"],
        "library": ["done", "EBADF"],
        "of a description": "EPERM",
        "of another": ["EAGAIN", True],
        "blocked until": True,
        "after it closed": "done",
        "sqlite": [[1], [2]],
    }
    assert found["host"] == set()


CONFINED_LOCKS = """
    import fcntl, sqlite3, struct, time
    def lock(file, kind, start=0, size=0): return attempt(fcntl.lockf, file, kind | fcntl.LOCK_NB, size, start)
    def child(action):
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, json.dumps(action()).encode()); os._exit(0)
        os.close(write)
        return read
    def heard(read):
        os.wait()
        return json.loads(os.read(read, 1000))
    env, own, told = open("/usr/bin/env"), open("own", "w+"), {}
    told["own"] = [lock(own, fcntl.LOCK_EX), lock(own, fcntl.LOCK_EX)]
    told["library"] = [lock(env, fcntl.LOCK_SH), lock(env, fcntl.LOCK_EX)]
    for byte in range(0, 400, 2): lock(env, fcntl.LOCK_SH, byte, 1)
    told["of a description"] = attempt(fcntl.fcntl, own, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
    print("ready", flush=True)
    time.sleep(1)
    def of_another():
        with open("own", "w") as file:
            wish = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
            return [lock(file, fcntl.LOCK_EX), struct.unpack("hhqqi4x", wish)[4] == os.getppid()]
    told["of another"] = heard(child(of_another))
    def waits():
        with open("own", "w") as file: start = time.monotonic(); fcntl.lockf(file, fcntl.LOCK_EX)
        return time.monotonic() - start > 0.1
    waiter = child(waits)
    time.sleep(0.4)
    own.close()
    told["blocked until"] = heard(waiter)
    def after():
        with open("own", "w") as file: return lock(file, fcntl.LOCK_EX)
    told["after it closed"] = heard(child(after))
    base = sqlite3.connect("base", isolation_level=None); base.execute("create table t (x)")
    other = sqlite3.connect("base", isolation_level=None)
    base.execute("insert into t values (1)"); other.execute("insert into t values (2)")
    told["sqlite"] = base.execute("select x from t order by x").fetchall()
    tell(told)
"""


FOLDERS_IN_MEMORY = """
    import re
    own = os.environ["TMPDIR"].rsplit("/", 2)[1]
    reader, writer = os.pipe()
    def readable(start, end):
        for page in range(start & ~4095, end, 4096):
            if libc.write(writer, ctypes.c_void_p(page), 4096) == 4096: yield os.read(reader, 4096)
            else: yield bytes(4096)
    libc.sbrk.restype = ctypes.c_void_p
    heap, arena = libc.sbrk(0), id(object())
    memory = b"".join([*readable(heap - (24 << 20), heap), *readable(arena - (24 << 20), arena + (24 << 20))])
    names = set(re.findall(rb"/([0-9]+-[0-9a-f]{16})/", memory))
    tell([own.encode() in names, len(names - {own.encode()})])
"""


@pytest.mark.levels("confined")
def test_a_confined_guest_finds_the_folder_of_no_other_guest_in_its_memory(harness):
    """Their names are what keeps guests off files whose uid they all share."""
    harness.python("print(1)")
    seen = harness.together(FOLDERS_IN_MEMORY, FOLDERS_IN_MEMORY, "print(2)")
    assert [one.told for one in seen[:2]] == [[True, 0]] * 2


@pytest.mark.levels("confined")
def test_a_confined_guest_sets_modes_and_times_of_its_own_files_alone(harness):
    """Tried on a file with the server's uid, which the guest may read: by path, by links, by descriptor."""
    prefix = harness.python("tell(sys.prefix)").told
    target = next(path for path in Path(prefix).rglob("*") if path.is_file() and not path.is_symlink())
    before = target.stat()
    seen = harness.python(f"""
        target = {str(target)!r}
        import shutil
        os.mkdir("folder"); open("folder/own", "w").close()
        os.symlink("folder/own", "inside"); os.symlink(target, "outside"); os.symlink(os.path.dirname(target), "up")
        own, shown = os.open("folder/own", os.O_RDONLY), os.open(target, os.O_RDONLY)
        folder, beside = os.open("folder", os.O_RDONLY), os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY)
        name = os.path.basename(target)
        mine = [
            attempt(os.utime, "folder/own", (1, 1)), attempt(os.utime, own), attempt(os.chmod, own, 0o400),
            attempt(os.utime, "inside", (1, 2)), attempt(os.utime, "inside", (7, 7), follow_symlinks=False),
            attempt(os.chmod, os.path.abspath("inside"), 0o640), attempt(os.chmod, "own", 0o600, dir_fd=folder),
            attempt(os.utime, "own", ns=(3, 4), dir_fd=folder), attempt(shutil.copy2, "folder/own", "copy"),
        ]
        facts = [oct(os.stat("copy").st_mode), os.stat("copy").st_mtime_ns, os.lstat("inside").st_mtime]
        ways = [(target,), ("outside",), ("up/" + name,), (shown,)]
        foreign = [attempt(os.utime, *way, (1, 1)) for way in ways] + [attempt(os.chmod, *way, 0o777) for way in ways]
        foreign += [attempt(os.utime, name, dir_fd=beside), attempt(os.chmod, name, 0o777, dir_fd=beside)]
        absent = [
            attempt(os.utime, "none"), attempt(os.chmod, "", 0), attempt(os.chmod, 99, 0),
            attempt(os.chmod, "own", 0, dir_fd=98), attempt(os.chmod, "x" * 5000, 0),
            attempt(os.chmod, "folder/own", 0o4755), attempt(os.chmod, "/proc/self/cwd", 0),
        ]
        bad = [(-100, 8, 0, 0), (-100, -1, 0, 0), (own, 0, 8, 0), (own, 0, 0, 0x40000)]
        bad = [call("utimensat", *arguments) for arguments in bad]
        tell([mine, facts, foreign, absent, bad])
    """)
    mine, facts, foreign, absent, bad = seen.told
    assert set(mine) == {"done"}
    assert facts == ["0o100600", 4, 7.0]
    assert set(foreign) <= {"EPERM", "EACCES"}  # the latter where not even its folder may be entered
    assert target.stat() == before
    if os.geteuid() != 0:  # else the kernel itself decides, for each guest has a uid of its own
        assert absent == ["ENOENT", "ENOENT", "EBADF", "EBADF", "ENAMETOOLONG", "EPERM", "ELOOP"]
    assert bad == ["EFAULT", "EFAULT", "EFAULT", "EINVAL"]


@pytest.mark.levels("confined")
def test_a_confined_guest_that_asks_for_locks_with_rubbish_gets_an_errno(harness):
    seen = harness.python("""
        import mmap, struct
        page = mmap.mmap(-1, 4096)
        last = ctypes.addressof(ctypes.c_char.from_buffer(page)) + 4090  # the answer would go beyond the page
        own = os.open("own", os.O_RDWR | os.O_CREAT)
        def lock(*parts): return struct.pack("hhqqi4x", *parts)
        rubbish = {
            "no address": call("fcntl", own, 6, 0),
            "the kernel's": call("fcntl", own, 6, -1),
            "one of the upper half": call("fcntl", own, 6, 1 << 63),
            "no kind": call("fcntl", own, 6, lock(77, 0, 0, 0, 0)),
            "no whence": call("fcntl", own, 6, lock(0, 9, 0, 0, 0)),
            "before the start": call("fcntl", own, 6, lock(0, 0, -5, 1, 0)),
            "beyond the end": call("fcntl", own, 6, lock(0, 0, 2**63 - 1, 2**63 - 1, 0)),
            "no descriptor": call("fcntl", 999, 6, lock(0, 0, 0, 0, 0)),
            "a path only": call("fcntl", os.open("own", os.O_PATH), 6, lock(0, 0, 0, 0, 0)),
            "to read only": call("fcntl", os.open("own", os.O_RDONLY), 6, lock(1, 0, 0, 0, 0)),
            "from the end": call("fcntl", own, 6, lock(1, 2, 0, 10, 0)),
            "backwards": call("fcntl", own, 6, lock(1, 0, 10, -5, 0)),
        }
        call("fcntl", own, 6, ctypes.c_void_p(last))
        tell(rubbish)
    """).told
    assert seen == {
        "no address": "EFAULT",
        "the kernel's": "EFAULT",
        "one of the upper half": "EFAULT",
        "no kind": "EINVAL",
        "no whence": "EINVAL",
        "before the start": "EINVAL",
        "beyond the end": "EINVAL",
        "no descriptor": "EBADF",
        "a path only": "EBADF",
        "to read only": "EBADF",
        "from the end": "done",
        "backwards": "done",
    }
