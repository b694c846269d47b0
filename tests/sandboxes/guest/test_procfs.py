"""What is read of a process: true while it lives, nothing once it is gone, never an error."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from codex_server.sandboxes.guest import procfs

pytestmark = pytest.mark.unprivileged

WAITING = [sys.executable, "-I", "-S", "-c", "input()"]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(WAITING, stdin=subprocess.PIPE) as process:
        yield process
        process.communicate(b"\n")


def test_the_children_of_every_thread_are_reported(child: subprocess.Popen[bytes]) -> None:
    started: list[subprocess.Popen[bytes]] = []
    ready, done = threading.Event(), threading.Event()

    def start_another() -> None:
        started.append(subprocess.Popen(WAITING, stdin=subprocess.PIPE))
        ready.set()
        done.wait()

    thread = threading.Thread(target=start_another)
    thread.start()
    ready.wait()
    try:
        assert {child.pid, started[0].pid} <= set(procfs.children(os.getpid()))
    finally:
        done.set()
        thread.join()
        started[0].communicate(b"\n")


def test_a_living_process_has_used_something() -> None:
    own = os.getpid()
    assert procfs.cpu_seconds(own) > 0
    assert procfs.peak_resident_bytes(own) > 2**20
    assert procfs.resident_bytes(own, shared_fairly=False) > 2**20
    assert procfs.resident_bytes(own, shared_fairly=True) > 2**20


def test_a_process_that_is_gone_has_nothing() -> None:
    with subprocess.Popen(["/bin/true"]) as gone:
        gone.wait()
    assert procfs.children(gone.pid) == []
    assert procfs.cpu_seconds(gone.pid) == procfs.scheduled_seconds(gone.pid) == 0.0
    assert procfs.peak_resident_bytes(gone.pid) == 0
    assert [procfs.resident_bytes(gone.pid, shared_fairly=fairly) for fairly in (False, True)] == [0, 0]


def test_one_that_is_dead_but_not_yet_waited_for_has_no_memory(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert procfs.peak_resident_bytes(child.pid) == 0
    assert procfs.resident_bytes(child.pid, shared_fairly=False) == 0


def test_a_process_that_made_itself_undumpable_cannot_hide_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: str, *args: Any, **options: Any) -> Any:
        if path.endswith("smaps_rollup"):
            raise PermissionError
        return open(path, *args, **options)

    monkeypatch.setattr(procfs, "open", closed, raising=False)
    assert procfs.resident_bytes(os.getpid(), shared_fairly=True) > 2**20
