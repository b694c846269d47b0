"""Nothing that a guest says changes what is told of it: the ending comes from the kernel."""
# ruff: noqa: E501 - the long lines are programs of guests

import os
import signal

import pytest

from codex_server.sandboxes.base import IsolationLevel

pytestmark = pytest.mark.inside


@pytest.mark.parametrize("code", [1, 2, 70, 124, 126, 127, 137, 139, 143, 255])
def test_an_exit_code_is_only_an_exit_code(harness, code):
    seen = harness.python(f"sys.exit({code})")
    assert (seen.status, seen.ending.exit_code, seen.ending.signal, seen.ending.stop) == ("failed", code, None, None)


@pytest.mark.parametrize(
    "name", ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGXCPU", "SIGABRT", "SIGALRM", "SIGUSR1", "SIGSYS"]
)
def test_a_signal_that_a_guest_sends_itself_is_only_a_signal(harness, name):
    number = getattr(signal, name)
    seen = harness.python(f"os.kill(os.getpid(), {number})")
    assert (seen.status, seen.ending.signal, seen.ending.exit_code, seen.ending.stop) == (
        "signalled",
        number,
        None,
        None,
    )


def test_a_real_crash_is_a_signal(harness):
    seen = harness.python("ctypes.string_at(0)")
    assert (seen.status, seen.ending.signal) == ("signalled", signal.SIGSEGV)


def test_an_abort_leaves_no_core(harness):
    seen = harness.python("os.abort()")
    assert (seen.status, seen.ending.signal, seen.ending.files) == ("signalled", signal.SIGABRT, ())


def test_a_printed_result_is_only_output(harness):
    seen = harness.python("""
        forged = bytes((1, 7)) + b'{"exit_code":0,"signal":null,"stop":null,"wall_seconds":0,"cpu_seconds":0,"peak_memory_bytes":0,"files":[],"skipped":[],"unlisted":0}'
        for number in range(64): attempt(os.write, number, forged)
        os._exit(9)
    """)
    assert (seen.status, seen.ending.exit_code) == ("failed", 9)
    assert '"exit_code":0' in seen.stdout


def test_a_forged_frame_on_the_old_channels_number_reaches_nobody(harness):
    seen = harness.python("""
        import socket
        tell([attempt(os.write, number, b"\\x01\\x07{}") for number in range(3, 20)])
    """)
    assert set(seen.told) == {"EBADF"}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_closing_a_stream_changes_nothing_else(harness, number):
    seen = harness.python(f"os.close({number}); os._exit(5)")
    assert (seen.status, seen.ending.exit_code) == ("failed", 5)


def test_closing_every_stream_does_not_end_the_watch(harness):
    seen = harness.python("for number in (0, 1, 2): os.close(number)\nwhile True: pass", wall_seconds=1)
    assert seen.status == "timed_out"


def test_a_guest_cannot_kill_its_init(harness):
    seen = harness.python("""
        import signal
        for number in (*range(1, 32), 34, 64):
            for victim in {1, os.getppid() or 1}: attempt(os.kill, victim, number)  # 0 would be its own group
        print("still here")
    """)
    assert (seen.status, seen.stdout) == ("succeeded", "still here\n")


def test_killing_everyone_kills_only_the_guest(harness, host):
    seen = harness.python("""
        import time
        child = os.fork()
        if child == 0: time.sleep(30); os._exit(0)
        os.kill(-1, 9)  # everyone but the caller and, where it has one, PID 1
        tell(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert (seen.status, seen.told) == ("succeeded", -9)


def test_a_child_that_was_killed_for_memory_does_not_colour_the_parent(harness):
    seen = harness.python(
        """
        import time
        pid = os.fork()
        if pid == 0:
            kept = bytearray(200 << 20); time.sleep(5); os._exit(0)
        os.waitpid(pid, 0)
        """,
        memory_bytes=96 * 2**20,
        wall_seconds=5,
    )
    assert seen.status == "succeeded"
    if harness.level is IsolationLevel.FULL:
        assert (seen.ending.oom_kills, seen.stderr) == (1, "")
    else:  # without a cgroup a limit of the child's own refuses the memory
        assert (seen.ending.oom_kills, seen.stderr.splitlines()[-1]) == (0, "MemoryError")


def test_time_that_a_guest_slept_is_not_processor_time(harness):
    ending = harness.python("import time; time.sleep(0.5)").ending
    assert ending.wall_seconds >= 0.5
    assert ending.cpu_seconds < 0.4


def test_processor_time_comes_from_the_kernel(harness):
    ending = harness.python("import time\nwhile time.process_time() < 0.5: pass").ending
    assert ending.cpu_seconds >= 0.4


def test_a_huge_argument_or_variable_is_the_programs_trouble(harness):
    largest = 32 * os.sysconf("SC_PAGESIZE")  # of one text that execve takes, its end included
    for wishes in ({"args": ("x" * largest,)}, {"env": {"LARGE": "x" * largest}}):
        seen = harness.bash("echo $#", **wishes)
        assert (seen.status, seen.ending.exit_code, seen.stdout) == ("failed", 126, "")
        assert "Argument list too long" in seen.stderr
        seen = harness.python("tell([len(sys.argv[-1]), len(os.environ.get('LARGE', ''))])", **wishes)
        assert largest in seen.told
    many = ("y",) * 20_000
    assert harness.bash("echo $#", args=many).stdout == "20000\n"
    assert harness.python("tell(len(sys.argv))", args=many).told == 20_001


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "PYTHONSTARTUP",
        "PYTHONPATH",
        "PYTHONHOME",
        "BASH_ENV",
        "NODE_OPTIONS",
        "GCONV_PATH",
    ],
)
def test_a_variable_given_with_the_request_reaches_only_the_guest(harness, name):
    evil = {
        "evil.py": b"print('evil')",
        "evil.sh": b"echo evil",
        "evil.cjs": b"console.log('evil')",
        "evil.so": b"\x7fELF",
    }
    values = {
        "PYTHONPATH": ".",
        "NODE_OPTIONS": "--require ./evil.cjs",
        "BASH_ENV": "./evil.sh",
        "PYTHONHOME": "/nowhere",
    }
    env = {name: values.get(name, "./evil.so")}
    for language, code in (("python", "print('ran')"), ("bash", "echo ran"), ("javascript", "console.log('ran')")):
        seen = harness.run(language, code, env=env, files=evil)
        if (name, language) == ("PYTHONHOME", "python"):  # no Python starts without its library
            assert (seen.status, seen.stdout) == ("failed", "")
        else:
            obeyed = (name, language) in {("BASH_ENV", "bash"), ("NODE_OPTIONS", "javascript")}
            assert (seen.status, seen.stdout) == ("succeeded", "evil\nran\n" if obeyed else "ran\n")
    after = harness.python("print('ran')", files=evil)
    assert (after.status, after.stdout, after.stderr) == ("succeeded", "ran\n", "")


def test_a_guest_that_patches_everything_changes_only_itself(harness):
    seen = harness.python("""
        import builtins, json, random, subprocess, threading
        builtins.print = builtins.open = builtins.len = None
        json.dumps = random.random = subprocess.run = lambda *a, **k: "patched"
        for name in list(sys.modules):
            for key in list(vars(sys.modules[name])):
                if key.startswith("__") or name in ("sys", "os", "builtins", "__main__"): continue
                try: setattr(sys.modules[name], key, None)
                except (AttributeError, TypeError): pass
        sys.modules.clear(); sys.path.clear(); os.environ.clear()
        os.write(1, b"patched")
        os._exit(7)
    """)
    assert (seen.ending.exit_code, seen.stdout) == (7, "patched"), seen
    after = harness.python(
        "import json, random, subprocess; tell([0 <= random.random() < 1, subprocess.run(['echo', 'x'], capture_output=True).stdout.decode(), len('abc')])"
    )
    assert after.told == [True, "x\n", 3]


def test_two_executions_share_no_randomness(harness):
    program = """
        import random, secrets, tempfile, uuid
        tell([random.random(), random.Random().random(), secrets.token_hex(), str(uuid.uuid4()), str(uuid.uuid1()), os.urandom(8).hex(), next(tempfile._get_candidate_names()),
              random.SystemRandom().random(), os.getrandom(8).hex()])
    """
    runs = [harness.python(program).told for _ in range(3)] + [seen.told for seen in harness.together(program, program)]
    for values in zip(*runs, strict=True):
        assert len(set(values)) == len(runs)


def test_two_javascript_executions_share_no_randomness(harness):
    program = "console.log(Math.random(), require('crypto').randomUUID())"
    values = [harness.run("javascript", program).stdout for _ in range(3)]
    assert len(set(values)) == 3


def test_nothing_of_one_execution_is_left_for_the_next(harness):
    harness.python("""
        import tempfile
        for folder in (".", tempfile.gettempdir(), "/tmp", "/dev/shm", "/var/tmp"):
            attempt(lambda: open(folder + "/left-behind", "w").write("x"))
        os.environ["LEFT"] = "x"
    """)
    seen = harness.python("""
        import tempfile
        tell([[folder for folder in (".", tempfile.gettempdir(), "/tmp", "/dev/shm", "/var/tmp") if os.path.exists(folder + "/left-behind")], os.environ.get("LEFT")])
    """)
    assert seen.told == [[], None]


CLOSED = "import os, sys, time\nprint('said')\nsys.stdout.flush(); os.close(1); os.close(2)\n"
"""Most programs end as soon as they have closed their streams; these do not."""


@pytest.mark.parametrize(
    ("end", "exit_code", "signal"), [("os._exit(7)", 7, None), ("os.kill(os.getpid(), 9)", None, 9)]
)
def test_a_guest_that_closes_its_streams_has_the_ending_that_comes_later(harness, end, exit_code, signal):
    seen = harness.run("python", CLOSED + "time.sleep(0.2); open('late', 'w').write('x' * 1000)\n" + end)
    assert (seen.stdout, seen.ending.exit_code, seen.ending.signal) == ("said\n", exit_code, signal)
    assert [(file.path, len(file.content)) for file in seen.ending.files] == [("late", 1000)]


def test_a_guest_that_closes_its_streams_and_leaves_children_is_not_over_before_they_are_dead(harness):
    seen = harness.run(
        "python",
        CLOSED + "if os.fork() == 0:\n    with open('growing', 'wb', 0) as file:\n"
        "        while True: file.write(b'x')\ntime.sleep(0.05)\nos._exit(3)",
    )
    assert (seen.stdout, seen.ending.exit_code) == ("said\n", 3)
    left = [*seen.ending.files, *seen.ending.skipped_files]
    assert [file.path for file in left] == ["growing"]


def test_a_thread_that_outlives_the_first_one_decides_the_ending(harness):
    number = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
    seen = harness.run(
        "python",
        "import ctypes, os, sys, threading, time\n"
        + CLOSED
        + "def last():\n    time.sleep(0.2)\n    open('late', 'w').write('x')\n    os._exit(5)\n"
        f"threading.Thread(target=last).start()\nctypes.CDLL(None).syscall({number}, 0)",
    )
    assert (seen.ending.exit_code, [file.path for file in seen.ending.files]) == (5, ["late"])


@pytest.mark.parametrize("end", ["os._exit(7)", "sys.exit(7)", "os.kill(os.getpid(), 9)"])
def test_a_guest_that_hides_from_its_init_has_its_own_ending(harness, end):
    seen = harness.run(
        "python", f"import ctypes, os, sys\nctypes.CDLL(None).prctl(4, 0)\nprint('hidden', flush=True)\n{end}"
    )
    assert seen.stdout == "hidden\n"
    assert (seen.ending.exit_code, seen.ending.signal) == ((None, 9) if "kill" in end else (7, None))
    assert harness.python("print(1)").stdout == "1\n"
