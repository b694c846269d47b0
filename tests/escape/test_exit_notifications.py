"""What is reported of a program before it is dead is its real ending; guests can notify as our agents do."""

import signal
import subprocess
import sys

import pytest

from codex_server.sandboxes.guest import notices

pytestmark = pytest.mark.inside

MARKED = f"MARK = {notices.MARK}\n"
SETTLED = "import signal, threading, time\n" + MARKED


def ending(seen):
    return seen.ending.exit_code, seen.ending.signal, seen.ending.stop


@pytest.mark.parametrize("code", [0, 1, 9, 120, 137, 143, 255, 256, 511, -1])
@pytest.mark.parametrize("way", ["sys.exit({})", "os._exit({})", "os._exit(MARK | {} & 0xFF)"])
def test_every_way_to_leave_tells_the_low_byte_of_the_code(harness, way, code):
    seen = harness.python(MARKED + way.format(code))
    assert (ending(seen), seen.stderr) == ((code & 0xFF, None, None), "")


@pytest.mark.embedded
def test_a_slot_serves_on_after_an_exit_notification_of_the_guests_own(harness):
    harness.python(MARKED + "os._exit(MARK | 7)")
    slot = harness.last_slot
    assert harness.python("print(1)").stdout == "1\n"
    assert (harness.last_slot is slot) is (harness.level != "confined" and slot.reusable)


def test_a_child_that_notifies_does_not_end_its_parent(harness):
    seen = harness.python(
        MARKED
        + """
pid = os.fork()
if pid == 0: os._exit(MARK | 33)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
sys.exit(5)
"""
    )
    assert (seen.stdout, ending(seen)) == ("33\n", (5, None, None))


def test_a_child_that_comes_to_the_programs_end_ends_for_itself_alone(harness):
    seen = harness.python(
        "pid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint('parent' if pid else 'child', flush=True)"
    )
    assert (seen.stdout, ending(seen)) == ("child\nparent\n", (0, None, None))


def test_a_flood_of_exit_notifications_is_answered_one_by_one(harness):
    seen = harness.python(
        MARKED
        + """
codes = []
for number in range(400):
    pid = os.fork()
    if pid == 0: os._exit(MARK | number & 0xFF)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(codes == [number & 0xFF for number in range(400)])
sys.exit(6)
"""
    )
    assert (seen.stdout, ending(seen)) == ("True\n", (6, None, None))


def test_a_thread_that_notifies_ends_the_program_with_its_code(harness):
    seen = harness.python(
        SETTLED
        + """
threading.Thread(target=os._exit, args=(MARK | 21,)).start()
time.sleep(60)
"""
    )
    assert ending(seen) == (21, None, None)


def test_the_first_threads_exit_notification_counts_while_others_write_on(harness):
    seen = harness.python(
        SETTLED
        + """
def write():
    with open("growing", "wb", 0) as file:
        while True: file.write(b"x" * 65536); time.sleep(0)
threading.Thread(target=write, daemon=True).start()
while not os.path.exists("growing"): pass
sys.exit(8)
""",
        file_bytes=8 * 2**20,
    )
    assert ending(seen) == (8, None, None)
    assert [file.path for file in (*seen.ending.files, *seen.ending.skipped_files)] == ["growing"]


def test_children_that_write_on_do_not_hold_the_ending_or_touch_the_next_one(harness):
    seen = harness.python(
        """
for number in range(6):
    if os.fork() == 0:
        with open(f"growing{number}", "wb", 0) as file:
            while True: file.write(b"x"); file.seek(0)
while len(os.listdir()) < 7: pass
print("left", flush=True)
sys.exit(3)
"""
    )
    assert (seen.stdout, ending(seen)) == ("left\n", (3, None, None))
    assert sorted(file.path for file in seen.ending.files) == [f"growing{number}" for number in range(6)]


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 2**20])
def test_no_byte_that_was_written_before_the_exit_notification_is_lost(harness, size):
    code = f"import os, sys\nos.write(2, b'e' * 100)\nsys.stdout.write('x' * {size})\nsys.exit(2)"
    seen = harness.run("python", code)
    assert (seen.stdout == "x" * size, seen.stderr, ending(seen)) == (True, "e" * 100, (2, None, None))


def test_a_pipe_that_the_guest_made_larger_is_read_to_its_end(harness):
    seen = harness.python(
        """
import fcntl
fcntl.fcntl(1, 1031, 2**20)  # F_SETPIPE_SZ
os.write(1, b"x" * 2**20)
sys.exit(4)
"""
    )
    assert (seen.stdout == "x" * 2**20, ending(seen)) == (True, (4, None, None))


def test_what_is_said_and_written_at_the_very_end_is_told(harness):
    seen = harness.python(
        """
import atexit
def last():
    print("last words")
    open("last", "w").write("kept" * 1000)
atexit.register(last)
held = open("unclosed", "w")
held.write("flushed")
sys.exit(11)
"""
    )
    assert (seen.stdout, ending(seen)) == ("last words\n", (11, None, None))
    assert {file.path: len(file.content) for file in seen.ending.files} == {"last": 4000, "unclosed": 7}


@pytest.mark.parametrize("action", ["signal.SIG_DFL", "lambda *_: None", "lambda *_: open('late', 'w').close()"])
def test_a_signal_during_the_exit_notification_never_makes_a_wrong_ending(harness, action):
    for microseconds in (1, 30, 100, 300):
        seen = harness.python(
            SETTLED
            + f"signal.signal(signal.SIGALRM, {action})\n"
            + f"signal.setitimer(signal.ITIMER_REAL, {microseconds} / 1e6, 0.0001)\nos._exit(MARK | 7)"
        )
        # Asked to, or by the timer; or the C library's own end where a handler made the call fail.
        endings = {(7, None), (None, signal.SIGALRM), (None, signal.SIGSEGV)}
        assert (seen.ending.exit_code, seen.ending.signal) in endings
        assert harness.python("print('next')").stdout == "next\n"


def test_a_timer_colours_the_end_of_a_usual_program_no_more_than_under_plain_python(harness):
    """Python takes its handlers away before it is gone: a timer that goes on may kill it then, and nothing else may."""
    killed = 0
    for microseconds in (1, 30, 100, 300, 1000):
        code = (
            "import signal, sys\nsignal.signal(signal.SIGALRM, lambda *_: None)\n"
            f"signal.setitimer(signal.ITIMER_REAL, {microseconds} / 1e6, 0.0001)\nsys.exit(9)"
        )
        plain = subprocess.run([sys.executable, "-I", "-c", code], check=False, capture_output=True)
        assert plain.returncode in (9, -signal.SIGALRM)
        killed += plain.returncode < 0
        seen = harness.python(code)
        assert ending(seen) in ((9, None, None), (None, signal.SIGALRM, None))
        assert seen.stderr == ""
    assert killed, "plain Python is never killed so: then neither may we be"


@pytest.mark.levels("full")
def test_a_guest_that_is_killed_for_memory_with_all_its_threads_notifies_of_no_exit(harness):
    seen = harness.python(
        SETTLED
        + """
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
kept = bytearray(400 << 20)
sys.exit(0)
""",
        memory_bytes=96 * 2**20,
    )
    assert seen.status == "memory_exceeded"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("console.log(1)", 0),
        ("console.log(1); process.exitCode = 300", 44),
        ("console.log(1); process.exitCode = -1", 255),
        ("console.log(1); process.exit(7)", 7),
        ("process.on('exit', () => console.log(1))", 0),
        ("console.log(1); require('fs').promises.writeFile('f', 'x').then(() => process.exitCode = 3)", 3),
        ("const { Worker } = require('worker_threads'); console.log(1); new Worker('1', { eval: true })", 0),
        ("require('child_process').spawn('sleep', ['60'], { stdio: 'ignore' }).unref(); console.log(1)", 0),
        ("console.log(1); throw new Error('no')", 1),
        ("console.log(1); process.reallyExit(0x62796500 | 13)", 13),
    ],
)
def test_every_way_to_leave_node_tells_the_code(harness, code, exit_code):
    seen = harness.run("javascript", code)
    assert (seen.stdout, ending(seen)) == ("1\n", (exit_code, None, None))


def test_no_byte_of_a_large_output_of_node_is_lost(harness):
    seen = harness.run("javascript", "console.log('x'.repeat(2 ** 20)); process.exitCode = 3")
    assert (seen.stdout == "x" * 2**20 + "\n", ending(seen)) == (True, (3, None, None))


def test_a_shell_with_many_children_has_its_own_ending(harness):
    seen = harness.bash("for i in $(seq 200); do /bin/true; done; (exit 5); code=$?; echo done; exit $code")
    assert (seen.stdout, ending(seen)) == ("done\n", (5, None, None))


@pytest.mark.levels("full", "namespaces")
def test_what_a_program_used_is_told_of_one_that_left_early_too(harness):
    seen = harness.python("import time\nkept = bytearray(40 << 20)\nwhile time.process_time() < 0.2: pass\nsys.exit(3)")
    assert ending(seen) == (3, None, None)
    assert seen.ending.cpu_seconds >= 0.15
    assert 40 * 2**20 <= seen.ending.peak_memory_bytes < 120 * 2**20
