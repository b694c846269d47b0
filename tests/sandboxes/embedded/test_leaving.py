"""The end of a process as the kernel tells it before the process is reaped: real processes, no sandbox."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from codex_server.sandboxes.embedded.room import leaving

may_look = pytest.mark.skipif(
    os.geteuid() != 0, reason="the kernel tells a leaving process's code only to who may trace every process"
)


@contextmanager
def child(code: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process


def settled(pid: int) -> int:
    """The wait status that is told as soon as one is; the process is not reaped."""
    pause = threading.Event()
    for _ in range(5000):
        if (status := leaving.status_of_leaving(pid)) is not None:
            return status
        pause.wait(0.002)
    raise AssertionError("it never left")


def test_a_process_that_runs_has_no_ending():
    with child("import sys; sys.stdin.read()") as process:
        assert leaving.status_of_leaving(process.pid) is None
        assert leaving.await_last_instruction(process.pid) is None
        process.communicate()


@pytest.mark.parametrize(
    "code", ["", "import sys; sys.exit(7)", "import os; os._exit(255)", "import os; os.abort()", "1/0"]
)
@may_look
def test_what_is_told_is_what_waiting_tells_afterwards(code):
    with child(code) as process:
        told = settled(process.pid)
        assert os.waitpid(process.pid, 0) == (process.pid, told)
        process.returncode = os.waitstatus_to_exitcode(told)


@may_look
def test_a_process_that_was_killed_tells_the_signal():
    with child("import sys; sys.stdin.read()") as process:
        process.kill()
        assert os.waitstatus_to_exitcode(settled(process.pid)) == -signal.SIGKILL


def test_a_process_that_is_gone_has_no_ending_to_tell():
    with child("") as process:
        process.wait()
        assert leaving.status_of_leaving(process.pid) is None


@may_look
def test_a_code_that_may_not_be_seen_is_not_told(monkeypatch):
    with child("import sys; sys.exit(7)") as process:
        assert os.waitstatus_to_exitcode(settled(process.pid)) == 7
        monkeypatch.setattr(leaving, "_may_look_into", lambda pid: False)
        assert leaving.status_of_leaving(process.pid) is None
