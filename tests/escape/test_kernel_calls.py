"""What the kernel answers to calls that lead out of a room."""

import os
import signal

import pytest

from codex_server.sandboxes.seccomp import syscalls

REFUSED = {
    "mount": (b"none\0", b"/tmp\0", b"tmpfs\0", 0, 0),
    "umount2": (b"/proc\0", 2),
    "pivot_root": (b"/tmp\0", b"/tmp\0"),
    "chroot": (b"/tmp\0",),
    "fsopen": (b"tmpfs\0", 0),
    "open_tree": (-100, b"/\0", 1),
    "move_mount": (-1, b"\0", -100, b"/tmp\0", 4),
    "mount_setattr": (-100, b"/\0", 0x8000, b"\0" * 32, 32),
    "unshare": (0x10000000,),
    "setns": (0, 0),
    "ptrace": (16, 1, 0, 0),
    "process_vm_readv": (1, 0, 0, 0, 0, 0),
    "process_vm_writev": (1, 0, 0, 0, 0, 0),
    "pidfd_getfd": (0, 0, 0),
    "kcmp": (1, 1, 0, 0, 0),
    "keyctl": (0, -3, 0),
    "add_key": (b"user\0", b"x\0", b"y\0", 1, -3),
    "request_key": (b"user\0", b"x\0", 0, -3),
    "bpf": (0, 0, 0),
    "perf_event_open": (b"\0" * 128, 0, -1, -1, 0),
    "io_uring_setup": (1, b"\0" * 128),
    "userfaultfd": (0,),
    "memfd_secret": (0,),
    "init_module": (0, 0, b"\0"),
    "finit_module": (0, b"\0", 0),
    "kexec_load": (0, 0, 0, 0),
    "reboot": (0xFEE1DEAD - 2**32, 672274793, 0x01234567, 0),
    "sethostname": (b"mine", 4),
    "setdomainname": (b"mine", 4),
    "clock_settime": (0, b"\0" * 16),
    "settimeofday": (b"\0" * 16, 0),
    "adjtimex": (b"\0" * 208,),
    "swapon": (b"/tmp/x\0", 0),
    "acct": (b"/tmp/x\0",),
    "quotactl": (0, 0, 0, 0),
    "syslog": (3, b"\0" * 64, 64),
    "name_to_handle_at": (-100, b"/\0", b"\0" * 64, b"\0" * 8, 0),
    "open_by_handle_at": (-1, b"\0" * 64, 0),
    "fanotify_init": (0, 0),
    "seccomp": (1, 0, 0),
    "landlock_create_ruleset": (0, 0, 1),
    "personality": (0x0040000,),
    "vhangup": (),
    "sync": (),
    "migrate_pages": (1, 0, 0, 0),
    "move_pages": (1, 0, 0, 0, 0, 0),
    "mq_open": (b"mine\0", os.O_RDWR | os.O_CREAT, 0o600, 0),
    "mq_unlink": (b"mine\0",),
    "mq_notify": (0, 0),
    "mq_getsetattr": (0, 0, 0),
}
ONLY_X86 = {"modify_ldt": (1, b"\0" * 16, 16), "iopl": (3,), "ioperm": (0, 1, 1)}


def test_guest_is_refused_every_call_that_leads_out(harness):
    known = syscalls.numbers(os.uname().machine)
    calls = {name: arguments for name, arguments in (REFUSED | ONLY_X86).items() if name in known}
    seen = harness.python(f"tell({{name: call(name, *arguments) for name, arguments in {calls!r}.items()}})").told
    assert len(seen) >= len(REFUSED) - 2
    assert set(seen.values()) == {"EPERM"}


@pytest.mark.parametrize("flag", ["NEWNS", "NEWCGROUP", "NEWUTS", "NEWIPC", "NEWUSER", "NEWPID", "NEWNET"])
def test_guest_cannot_make_a_namespace_with_clone(harness, flag):
    flags = {
        "NEWNS": 0x20000,
        "NEWCGROUP": 0x2000000,
        "NEWUTS": 0x4000000,
        "NEWIPC": 0x8000000,
        "NEWUSER": 0x10000000,
        "NEWPID": 0x20000000,
        "NEWNET": 0x40000000,
    }
    seen = harness.python(f"""
        answer = call("clone", {flags[flag]} | 17, 0, 0, 0, 0)
        if answer == "done" and os.getpid() != {2 if str(harness.level) != "confined" else 0}: os._exit(0)
        tell(answer)
    """)
    assert seen.told == "EPERM"


def test_guest_cannot_make_a_child_of_its_parent(harness):
    """Nobody would wait for it, and the sandbox could never be taken down."""
    seen = harness.python("""
        answer = call("clone", 0x8000 | 17, 0, 0, 0, 0)
        if answer == "done" and os.fork() == 0: os._exit(0)
        tell(answer)
    """)
    assert seen.told == "EPERM"


def test_guest_cannot_make_a_namespace_with_clone3(harness):
    seen = harness.python("""
        import struct
        arguments = struct.pack("11Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
        tell(call("clone3", arguments, len(arguments)))
    """)
    assert seen.told == "ENOSYS"


def test_guest_cannot_become_root_of_a_user_namespace_by_tools(harness):
    seen = harness.bash("""
        unshare -Ur id -u; echo "unshare $?"
        unshare -m true; echo "mount $?"
        nsenter -t 1 -m true; echo "nsenter $?"
        mount -t tmpfs none /tmp; echo "tmpfs $?"
        mount -o remount,rw /; echo "remount $?"
        chroot / true; echo "chroot $?"
    """)
    answers = dict(line.split() for line in seen.stdout.splitlines())
    assert len(answers) == 6
    assert "0" not in answers.values()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only x86_64 has a second and a third set of calls")
def test_guest_dies_of_a_32_bit_call(harness):
    seen = harness.python("""
        import mmap
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(bytes.fromhex("53 b8 14 00 00 00 cd 80 5b c3"))
        print("asked", flush=True)
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        print("answered")
    """)
    assert (seen.stdout, seen.ending.signal, seen.status) == ("asked\n", 31, "signalled")


def assert_refused_or_killed(harness, seen, answers):
    """A container's runtime kills for a number of the x32 kind before our own filter can refuse it."""
    if harness.in_container and seen.ending.signal is not None:
        assert seen.ending.signal == signal.SIGSYS
    else:
        assert set(seen.told) == answers


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only x86_64 has a second and a third set of calls")
def test_guest_finds_no_x32_calls(harness):
    seen = harness.python("tell([call(1 << 30 | number, 0, 0, 0) for number in (0, 1, 39, 57, 272, 512, 547)])")
    assert_refused_or_killed(harness, seen, {"ENOSYS"})


def test_guest_finds_no_call_that_the_policy_does_not_know(harness):
    seen = harness.python("tell([call(number, 0, 0, 0) for number in (480, 511, 1000, 100_000, 2**30 - 1)])")
    assert set(seen.told) == {"ENOSYS"}
    assert harness.python("tell(call(470, 0, 0, 0))").told == "EPERM"  # the last but one that it knows, listns
    assert_refused_or_killed(harness, harness.python("tell([call(2**31 - 1, 0, 0, 0)])"), {"ENOSYS"})


def test_guest_cannot_type_into_a_terminal(harness):
    seen = harness.python("""
        import fcntl
        tell([attempt(fcntl.ioctl, 0, number, b"x") for number in (0x5412, 0x541C, 0x5423)])
    """)
    assert seen.told == ["EPERM"] * 3


def test_guest_cannot_switch_off_address_randomisation(harness):
    seen = harness.bash("setarch -R true; echo $?")
    assert seen.stdout.strip() != "0"


def test_guest_still_has_what_programs_need(harness):
    seen = harness.python("""
        import subprocess, threading, tempfile
        threads = [threading.Thread(target=sum, args=([1],)) for _ in range(4)]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
        with tempfile.TemporaryFile() as file: file.write(b"x")
        tell(subprocess.run(["sh", "-c", "echo child"], capture_output=True, text=True).stdout)
    """)
    assert seen.told == "child\n"


@pytest.mark.levels("full", "namespaces")  # at level confined /dev/shm is the host's, so there are no named semaphores
def test_guest_still_has_pools_of_processes(harness):
    seen = harness.python("""
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool: tell(pool.map(abs, [-1, -2]))
    """)
    assert seen.told == [1, 2]
