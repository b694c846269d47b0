"""Exit notifications as the kernel sends them: real processes under the filter, no sandbox."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from codex_server.sandboxes.guest import kernel, notices
from tests.levels import out_of_reach

pytestmark = pytest.mark.unprivileged

PROGRAM = """
import os, signal, socket, sys, threading
from codex_server.sandboxes.guest import kernel, notices
MARK = notices.MARK
kernel.forbid_new_privileges()
with socket.socket(fileno=int(sys.argv[1])) as channel:
    notices.announce(channel, notices.listening_filter(notices.END))
    channel.send(b"R")
print(sorted(os.listdir("/proc/self/fd")), flush=True)
exec(sys.argv[2])
"""


@dataclass
class Speaker:
    """A process under the filter, and our end of its listener."""

    process: "subprocess.Popen[bytes]"
    listener: int

    def receives(self) -> notices.Notice:
        """The exit notification that comes next."""
        while self.events() == select.POLLIN:
            if notice := notices.receive(self.listener):
                return notice
        raise AssertionError("it has left, or says nothing")

    def events(self) -> int:
        """What poll(2) says of the listener, once it says something."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        return dict(poll.poll(10_000)).get(self.listener, 0)


@contextmanager
def speaker(code: str) -> Iterator[Speaker]:
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", PROGRAM, str(theirs.fileno()), code]
    with (
        ours,
        subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            cwd=Path(kernel.__file__).parents[3],
        ) as process,
    ):
        theirs.close()
        word, listeners, _, _ = socket.recv_fds(ours, 100, 1)
        if word == b"R":
            process.communicate()
            out_of_reach("listener", "this kernel, or a container around, offers no listener for system calls")
        assert word == notices.WORD
        assert ours.recv(100) == b"R"
        try:
            yield Speaker(process, listeners[0])
        finally:
            process.kill()
            os.close(listeners[0])


@pytest.mark.parametrize("code", [0, 1, 7, 128, 137, 255])
def test_a_exit_notification_reports_who_ends_with_which_code(code):
    with speaker(f"os._exit(MARK | {code})") as one:
        notice = one.receives()
        assert (notice.caller, notice.code) == (one.process.pid, code)
        assert one.process.poll() is None
        notices.let_go(one.listener, notice)
        assert one.process.wait(10) == code


def test_an_ending_without_the_mark_waits_for_nobody():
    with speaker("os._exit(5)") as one:
        assert one.process.wait(10) == 5
        assert notices.all_left(one.events())


def test_the_code_is_what_the_kernel_would_make_of_it():
    with speaker("import ctypes; ctypes.CDLL(None).syscall(231 if os.uname().machine == 'x86_64' else 94, "
                 "ctypes.c_ulong(0xABCD_0000_0000_0000 | MARK | 9))") as one:  # fmt: skip
        notice = one.receives()
        assert notice.code == 9
        notices.let_go(one.listener, notice)
        assert one.process.wait(10) == 9


def test_a_thread_says_exit_notification_under_its_own_number():
    with speaker("threading.Thread(target=os._exit, args=(MARK | 3,)).start(); threading.Event().wait()") as one:
        notice = one.receives()
        assert (notice.caller != one.process.pid, notice.code) == (True, 3)
        notices.let_go(one.listener, notice)
        assert one.process.wait(10) == 3


def test_an_exit_notification_is_held_until_death_once_it_is_received():
    with speaker("signal.signal(signal.SIGUSR1, lambda *_: os._exit(99)); os._exit(MARK | 4)") as one:
        one.receives()
        one.process.send_signal(signal.SIGUSR1)
        one.process.send_signal(signal.SIGCONT)
        with pytest.raises(subprocess.TimeoutExpired):
            one.process.wait(0.1)  # no handler runs: it never comes back from the call
        one.process.kill()
        assert one.process.wait(10) == -signal.SIGKILL


def test_a_exit_notification_that_a_signal_withdrew_is_said_again():
    code = "signal.signal(signal.SIGUSR1, lambda *_: None); signal.siginterrupt(signal.SIGUSR1, False); "
    with speaker(code + "os._exit(MARK | 4)") as one:
        assert one.events() == select.POLLIN
        one.process.send_signal(signal.SIGUSR1)
        notice = one.receives()
        assert (notice.caller, notice.code) == (one.process.pid, 4)


def test_nothing_is_received_where_the_caller_was_killed_before():
    with speaker("os._exit(MARK | 4)") as one:
        assert one.events() == select.POLLIN
        one.process.kill()
        one.process.wait(10)
        assert notices.all_left(one.events())


def test_letting_go_of_the_dead_is_nothing():
    with speaker("os._exit(MARK | 4)") as one:
        notice = one.receives()
        one.process.kill()
        one.process.wait(10)
        notices.let_go(one.listener, notice)


def test_nobody_is_left_only_when_children_and_threads_are_gone_too():
    with speaker("pid = os.fork() or sys.stdin.read(); os._exit(0)") as one:
        one.process.wait(10)
        poll = select.poll()
        poll.register(one.listener, select.POLLIN)
        assert poll.poll(0) == []  # the child lives, and reads
        assert one.process.stdin
        one.process.stdin.close()
        assert notices.all_left(one.events())


def test_the_program_holds_no_listener():
    with speaker("os._exit(0)") as one:
        assert one.process.stdout
        assert one.process.stdout.read() in (
            b"['0', '1', '2', '3']\n",
            b"['0', '1', '2', '4']\n",
        )  # 3 or 4: the listing


def test_where_the_kernel_refuses_a_listener_nothing_is_announced(monkeypatch):
    def refuse(program: bytes, flags: int) -> int:
        raise OSError(16, "there is one already")

    monkeypatch.setattr(kernel, "load_seccomp", refuse)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        notices.announce(theirs, b"")
        theirs.send(b"R")
        assert ours.recv(100) == b"R"


UNDER_ANOTHER_LISTENER = """
import errno, os, struct, sys
from codex_server.sandboxes.guest import kernel
allow_all = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF_0000)
listener = kernel.load_seccomp(allow_all, kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER)
os.set_inheritable(listener, True)  # the server holds it on; nobody else may have one then
try: kernel.load_seccomp(allow_all, kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER)
except OSError as error: assert error.errno == errno.EBUSY
else: sys.exit("two listeners")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="without no-new-privileges only root may load a filter")
@pytest.mark.parametrize("code", ["sys.exit(3)", "os.fork() and sys.exit(3)", "os._exit(0x62796500 | 3)"])
def test_a_server_below_another_listener_waits_for_its_programs_and_reports_the_same(code):
    run = ["-m", "codex_server", "run", "--min-isolation", "namespaces", "-c", "import os, sys\n" + code]
    result = subprocess.run(
        [sys.executable, "-c", UNDER_ANOTHER_LISTENER, *run],
        capture_output=True,
        check=False,
        timeout=60,
        cwd=Path(kernel.__file__).parents[3],
    )
    assert (result.returncode, result.stderr) == (3, b"")
