"""A slot that serves one execution after another: what the next guest finds is what the first one found."""

import pytest

pytestmark = [pytest.mark.levels("full", "namespaces"), pytest.mark.embedded]

CANARY = "sings-the-canary-of-4b1f"
SEARCH = """
    import re
    wanted = re.compile(b"s[i]ngs-the-can[a]ry-of-4b1[f]")
    found = []
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in open("/proc/self/maps"):
            place, rights, *_ = line.split()
            if "r" not in rights or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")): continue
            start, end = (int(word, 16) for word in place.split("-"))
            memory.seek(start)
            try: content = memory.read(end - start)
            except OSError: continue
            if wanted.search(content): found.append(line)
    tell(found)
"""
NETWORK = """
    tell([open("/proc/net/" + name).read() for name in ("dev", "snmp", "snmp6", "netstat", "tcp", "udp", "unix")])
"""
WORLD = """
    import glob, resource, socket
    TOPS = ("/workspace", "/tmp", "/dev/shm")
    tell({
        "pid": os.getpid(), "host": socket.gethostname(), "umask": os.umask(0), "cwd": os.getcwd(),
        "limits": [resource.getrlimit(limit) for limit in range(16)], "nice": os.nice(0),
        "processors": sorted(os.sched_getaffinity(0)), "uid": os.getuid(), "groups": os.getgroups(),
        "fds": sorted(os.listdir("/proc/self/fd")), "environment": sorted(os.environ),
        "files": [sorted(glob.glob(top + "/**", recursive=True, include_hidden=True)) for top in TOPS],
        "modes": [oct(os.stat(top).st_mode) for top in TOPS],
        "free": [os.statvfs(top).f_ffree for top in ("/tmp", "/dev/shm")],
        "mounts": len(open("/proc/self/mounts").readlines()),
        "ipc": [len(open("/proc/sysvipc/" + name).readlines()) for name in ("shm", "sem", "msg")],
        "adjust": open("/proc/self/oom_score_adj").read(),
        "processes": sorted(filter(str.isdigit, os.listdir("/proc"))),
    })
"""
MESS = """
    import resource, signal, subprocess, tempfile, time
    os.umask(0o077)
    os.nice(5)
    os.sched_setaffinity(0, {0})
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
    for folder in (".", "/tmp", "/dev/shm"):
        os.mkdir(folder + "/.hidden"); open(folder + "/.hidden/file", "w").write("x" * 100_000)
    call("shmget" if "shmget" in NUMBERS else 29, 77, 4096, 0o1666)
    os.chmod(".", 0o700)
    daemon = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    os.chdir("/tmp/.hidden")
"""


def same_slot(harness, first, second):
    """What ``second`` did in the slot in which ``first`` ran before it."""
    before = harness.python(first)
    slot = harness.last_slot
    after = harness.python(second)
    assert harness.last_slot is slot, (before, after)
    return after


def test_a_slot_whose_guest_came_to_its_own_end_serves_the_next_one(harness):
    assert same_slot(harness, "sys.exit(3)", "print(1)").stdout == "1\n"
    assert same_slot(harness, "os.kill(os.getpid(), 11)", "print(2)").stdout == "2\n"


def test_a_slot_whose_guest_had_to_be_stopped_serves_nobody_any_more(harness):
    harness.python("while True: pass", wall_seconds=0.3)
    slot = harness.last_slot
    harness.python("print(1)")
    assert harness.last_slot is not slot


def test_a_guest_finds_the_world_as_the_one_before_found_it(harness):
    first = harness.python(WORLD).told
    assert same_slot(harness, MESS, WORLD).told == first


def test_a_guest_finds_no_byte_of_the_one_before_in_its_own_memory(harness):
    sung = harness.run(
        "python",
        f"import sys\nprint({CANARY!r}, sys.argv, sys.stdin.read())\nopen({CANARY!r}, 'w').write({CANARY!r} * 1000)",
        args=(CANARY,),
        env={"SONG": CANARY},
        stdin=CANARY.encode(),
        files={f"in-{CANARY}": CANARY.encode() * 100},
    )
    slot = harness.last_slot
    assert sung.stdout.count(CANARY) == 3
    assert [file.path for file in sung.ending.files] == [CANARY]
    assert harness.python(SEARCH).told == []
    assert harness.last_slot is slot
    assert harness.python(SEARCH + f"    song = {CANARY!r}").told, "the search finds nothing at all"


def test_a_network_that_was_used_is_replaced(harness):
    first = harness.python(NETWORK).told
    used = """
        import socket
        server = socket.create_server(("127.0.0.1", 8099))
        caller = socket.create_connection(("127.0.0.1", 8099))
        other, _ = server.accept()
        for end in (other, caller, server): end.close()  # the side that closes first lingers in TIME_WAIT
        tell(len(open("/proc/net/tcp").readlines()))
    """
    assert harness.python(used).told > 1
    again = "import socket; server = socket.socket(); server.bind(('127.0.0.1', 8099)); server.listen(); tell(1)"
    assert same_slot(harness, used, again).told == 1
    assert same_slot(harness, used, NETWORK).told == first


def test_a_network_where_only_a_refusal_was_counted_is_replaced_too(harness):
    first = harness.python(NETWORK).told
    refused = "import socket; attempt(socket.create_connection, ('192.0.2.1', 80), 1)"
    assert same_slot(harness, refused, NETWORK).told == first


def test_message_queues_do_not_outlive_their_guest(harness):
    made = "tell(call('msgget', 78, 0o1600))"  # IPC_CREAT
    found = "tell(call('msgget', 78, 0o600))"
    assert harness.python(made).told == "done"
    assert same_slot(harness, made, found).told == "ENOENT"


def test_what_the_one_before_used_is_not_counted_for_the_next(harness):
    used = harness.python("kept = bytearray(150 << 20)\nfor _ in range(3_000_000): pass\nkept[::4096] = kept[::4096]")
    assert used.ending.peak_memory_bytes > 150 << 20
    after = same_slot(harness, "kept = bytearray(150 << 20); sum(range(3_000_000))", "print(1)")
    assert after.ending.peak_memory_bytes < 60 << 20
    assert after.ending.cpu_seconds < used.ending.cpu_seconds + 1
    assert after.ending.oom_kills == 0


def test_tighter_limits_of_the_one_before_do_not_bind_the_next(harness):
    harness.python("print(1)", memory_bytes=64 << 20, processes=5, file_bytes=1000, cpu_seconds=2)
    slot = harness.last_slot
    seen = harness.python("""
        import threading, time
        kept = bytearray(150 << 20)
        threads = [threading.Thread(target=time.sleep, args=(0.2,)) for _ in range(20)]
        for thread in threads: thread.start()
        open("big", "wb").write(bytes(100_000))
        tell(len(threads))
    """)
    assert seen.told == 20
    assert harness.last_slot is slot


@pytest.mark.levels("full")
def test_tighter_limits_hold_in_a_slot_that_served_looser_ones(harness):
    harness.python("kept = bytearray(150 << 20)")
    slot = harness.last_slot
    assert harness.python("kept = bytearray(150 << 20)", memory_bytes=64 << 20).status == "memory_exceeded"
    assert harness.last_slot is slot
    harness.python("print(1)")
    assert harness.last_slot is not slot


def test_guests_of_other_languages_come_into_the_same_slot(harness):
    harness.python("open('/tmp/left', 'w')")
    slot = harness.last_slot
    assert harness.bash("ls -A /tmp /dev/shm; echo $$").stdout.split() == ["/dev/shm:", "/tmp:", "2"]
    assert harness.last_slot is slot


def test_a_node_program_finds_nothing_of_the_one_before(harness):
    harness.run("javascript", "0")  # the first one shows what a slot with Node.js in it uses
    harness.run("javascript", "require('fs').writeFileSync('/tmp/left', process.env.HOME = 'left')")
    slot = harness.last_slot
    look = "console.log(process.pid, process.env.HOME, require('fs').readdirSync('/tmp'))"
    assert harness.run("javascript", look).stdout == "2 /tmp []\n"
    assert harness.last_slot is slot
