"""Everybody stands still, whatever they do against it, and goes on afterwards."""

import math
import os
import signal
import subprocess
import sys
import time

import pytest

from codex_server.sandboxes.guest import standstill as module
from codex_server.sandboxes.guest.procfs import states
from codex_server.sandboxes.guest.signals import send
from codex_server.sandboxes.guest.standstill import Standstill

_THREADS = """
import threading, time
def work():
    while True: time.sleep(0.001)
for _ in range(3): threading.Thread(target=work).start()
"""


class Members:
    """A boundary whose members are the processes of a test."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.stops = 0
        self.refuses = False

    def start(self, code: str) -> int:
        self.processes.append(subprocess.Popen([sys.executable, "-c", code], start_new_session=True))
        return self.processes[-1].pid

    def members(self):
        return (process.pid for process in self.processes if process.poll() is None)

    def signal(self, pids, number):
        send(pids, number)

    def stop_everyone(self):
        self.stops += 1
        if not self.refuses:
            send(list(self.members()), signal.SIGSTOP)


@pytest.fixture
def members():
    found = Members()
    yield found
    for process in found.processes:
        process.kill()
        process.wait()


def wait_for(condition):
    due = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < due
        time.sleep(0.005)


def test_all_threads_of_everybody_stand_still_and_go_on(members):
    busy, threads = members.start("while True: pass"), members.start(_THREADS)
    wait_for(lambda: len(os.listdir(f"/proc/{threads}/task")) == 4)
    standstill = Standstill(members)
    assert standstill.stop()
    assert states(busy) == states(threads) == {"T"}
    standstill.resume()
    wait_for(lambda: "T" not in states(busy) | states(threads))


def test_one_that_is_spared_goes_on(members):
    spared, other = members.start("while True: pass"), members.start("while True: pass")
    assert Standstill(members).stop([spared])
    wait_for(lambda: states(spared) <= {"R", "S"})
    assert states(other) == {"T"}


def test_a_shell_stands_still_before_its_jobs_and_these_before_theirs(members):
    sleeper = "import time; time.sleep(1000)"
    shell, job, below = (members.start(sleeper) for _ in range(3))
    above, seen = {job: shell, below: job}, {}
    send_signal = members.signal

    def signal_and_look(pids, number):
        seen.update((pid, states(above[pid])) for pid in pids if pid in above and pid not in seen)
        send_signal(pids, number)

    members.signal = signal_and_look
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "parent", lambda pid: above.get(pid, 0))
        assert Standstill(members).stop(shells=[shell])
    assert seen == {job: {"T"}, below: {"T"}}


def test_what_the_guest_itself_had_stopped_stays_so(members):
    stopped, other = members.start("while True: pass"), members.start("while True: pass")
    os.kill(stopped, signal.SIGSTOP)
    wait_for(lambda: states(stopped) == {"T"})
    standstill = Standstill(members)
    assert standstill.stop()
    assert standstill.stop()  # a kill stops them once more
    standstill.resume()
    wait_for(lambda: "T" not in states(other))
    assert states(stopped) == {"T"}


def test_a_child_goes_on_before_its_parent_which_may_stop_it_at_once(members, monkeypatch):
    for _ in range(4):
        members.start("while True: pass")
    standstill, order = Standstill(members), []
    assert standstill.stop()
    monkeypatch.setattr(members, "signal", lambda pids, number: order.extend(pids))
    standstill.resume()
    assert order == sorted(members.members(), reverse=True)


def test_one_that_others_continue_is_stopped_again(members):
    first = members.start("while True: pass")
    members.start(f"import os, signal\nfor _ in iter(int, 1): os.kill({first}, signal.SIGCONT)")
    wait_for(lambda: len(list(members.members())) == 2)
    for _ in range(20):
        standstill = Standstill(members)
        assert standstill.stop()
        assert [states(pid) for pid in members.members()] == [{"T"}, {"T"}]
        standstill.resume()


def test_who_has_gone_on_by_himself_is_stopped_again_but_not_for_ever(members):
    one, spared = members.start("while True: pass"), members.start("while True: pass")
    standstill = Standstill(members)

    def go_on():
        send([one], signal.SIGCONT)
        wait_for(lambda: states(one) == {"R"})

    assert standstill.stop([spared])
    assert standstill.look([spared])
    go_on()
    assert standstill.look([spared])
    assert states(one) == {"T"}
    go_on()
    assert not standstill.look([spared])
    standstill.resume()
    assert standstill.stop()
    go_on()
    assert standstill.look()


def test_everyone_is_looked_at_less_and_less_often_until_something_runs(members, monkeypatch):
    members.start("while True: pass")
    standstill = Standstill(members)
    assert standstill.due == math.inf
    standstill.stop()
    monkeypatch.setattr(module.time, "monotonic", lambda: 100.0)
    pauses = []
    standstill.look()
    for _ in range(9):
        pauses.append(standstill.due - 100.0)
        standstill.look()
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10.0
    standstill.resume()
    assert standstill.due == math.inf


def test_who_is_to_stand_still_is_made_to_and_who_runs_is_let_be(members):
    one = members.start("while True: pass")
    standstill = Standstill(members)
    assert standstill.keep()
    assert members.stops == 0
    standstill.stop()
    send([one], signal.SIGCONT)
    wait_for(lambda: states(one) == {"R"})
    assert standstill.keep()
    assert states(one) == {"T"}


def test_that_somebody_does_not_stand_still_is_said(members, monkeypatch):
    monkeypatch.setattr(module, "_MOST_SECONDS", 0.02)
    members.start("while True: pass")
    members.refuses = True
    assert not Standstill(members).stop()
    assert members.stops > 1


def test_single_ones_are_stopped_and_resumed(members):
    one = members.start("while True: pass")
    standstill = Standstill(members)
    standstill.stop_one(one)
    wait_for(lambda: states(one) == {"T"})
    standstill.resume_one(one)
    wait_for(lambda: states(one) != {"T"})


def test_who_is_gone_stands_still(members):
    members.start("pass")
    members.processes[0].wait()
    assert Standstill(members).stop()
