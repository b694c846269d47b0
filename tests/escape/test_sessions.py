# ruff: noqa: E501 - programs read better on one line
"""Guests that stay: nothing runs between two cells, claims deceive the claimer alone, and sessions are apart."""

import asyncio
import json
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_server.errors import InvalidRequest
from codex_server.limits import Limits
from codex_server.model import Ending, Execution, InputFile, Stream, Terminal
from codex_server.sandboxes.session import SessionPlan, SessionSandbox
from tests.escape.sandbox_harness import PRELUDE

pytestmark = [pytest.mark.levels("full", "namespaces", "confined"), pytest.mark.embedded]

_MARK = "sings-the-canary-of-7c2a"
_SEARCH = """
import re
wanted, found = re.compile(b"s[i]ngs-the-can[a]ry-of-7c2[a]"), []
with open("/proc/self/mem", "rb", buffering=0) as memory:
    for line in open("/proc/self/maps"):
        place, rights, *_ = line.split()
        if "r" not in rights or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")): continue
        start, end = (int(word, 16) for word in place.split("-"))
        memory.seek(start)
        try: content = memory.read(end - start)
        except OSError: continue
        if wanted.search(content): found.append(line)
print(found)
"""


class Cells:
    """A session of Python on the harness's backend."""

    def __init__(self, harness, sandbox: SessionSandbox) -> None:
        self.harness = harness
        self.sandbox = sandbox

    def run(self, code: str, wall: float = 20.0, **given: Any) -> tuple[Ending, str]:
        """How a cell ended, and what it printed."""
        printed = bytearray()

        def take(stream: Stream, chunk: bytes) -> bool:
            printed.extend(chunk)
            return True

        async def play() -> Ending:
            language = self.harness.languages.find("python")
            await self.sandbox.prepare(language)
            execution = Execution("exe", "python", code, Limits(wall_seconds=wall), **given)
            return await self.sandbox.run(execution, language, take)

        return self.harness.wait(play()), printed.decode(errors="replace")

    def processes(self) -> list[int]:
        """The pids of the guest's processes, as this host sees them."""
        return _descendants(self._init())

    def _init(self) -> int:
        text = Path(f"/proc/self/fdinfo/{self.sandbox._slot.pidfd}").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pid:"))


def _descendants(top: int) -> list[int]:
    """Those whose parents lead to ``top``, and those that share its pid namespace."""
    parents, found = {}, {top}
    space = _pid_namespace(top)
    own = space != os.readlink("/proc/self/ns/pid")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if own and os.readlink(entry / "ns" / "pid") == space:
                found.add(int(entry.name))
        except OSError:
            continue
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {top})


def _pid_namespace(pid: int) -> str:
    """An init in this one (``confined``) shows it to root alone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except PermissionError:
        return os.readlink("/proc/self/ns/pid")


def _ticks(pids: list[int]) -> int:
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields)


def _states(pids: list[int]) -> set[str]:
    found = set()
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.add((task / "stat").read_text().rpartition(") ")[2][:1])
    return found


def _with_terminal(pids: list[int]) -> list[int]:
    """Those that have a controlling terminal."""
    return [pid for pid in pids if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[4] != "0"]


def _wait_for(condition) -> None:
    due = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < due
        time.sleep(0.01)


@pytest.fixture
def session(harness):
    plan = SessionPlan("ses_escape", harness.settings.ceilings)
    sandbox = harness.wait(harness.backend.open_session(plan))
    yield Cells(harness, sandbox)
    harness.wait(sandbox.destroy())


_BUSY = """
import threading
def work():
    while True: pass
for _ in range(3): threading.Thread(target=work, daemon=True).start()
"""
_LEFT = {
    "threads": _BUSY,
    "own session": "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'], start_new_session=True)",
    "continues its parent": "import os, signal\nme = os.getpid()\nif os.fork() == 0:\n    while True: os.kill(me, signal.SIGCONT)",
    "handles SIGCONT": "import signal\nsignal.signal(signal.SIGCONT, lambda *_: [0 for _ in range(10**6)])",
    "POSIX timers": """
import ctypes, os, signal
libc, timer, event = ctypes.CDLL(None), ctypes.c_void_p(), (ctypes.c_long * 8)(0, signal.SIGCONT)
reader, writer = os.pipe()
if os.fork() == 0:
    signal.signal(signal.SIGCONT, lambda *_: None)
    for number in range(1, 31):
        libc.timer_create(1, event, ctypes.byref(timer))
        libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 0, 0, number * 20_000_000), None)
    os.write(writer, b".")
    while True: pass
os.read(reader, 1)
""",
    "timer": "import signal\nsignal.signal(signal.SIGALRM, lambda *_: None)\nsignal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)",
}


@pytest.mark.parametrize("left", _LEFT.values(), ids=_LEFT)
def test_nothing_of_a_session_runs_between_its_cells(session, left):
    session.run(left)
    pids = session.processes()
    before = _ticks(pids)
    time.sleep(0.4)
    assert session.processes() == pids
    assert _states(pids) <= set("TZX")
    assert _ticks(pids) == before
    assert session.run("print('still here')")[1].endswith("still here\n")


_HANGS_UP = """
import fcntl, os, signal, socket, termios, time
master, slave = os.openpty()
if os.fork() == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.close(master)
    open("ready", "w").close()
    while True: pass
while not os.path.exists("ready"): time.sleep(0.01)
one, other = socket.socketpair()
socket.send_fds(one, [b"."], [master, one.fileno(), other.fileno()])
for descriptor in master, slave, one.detach(), other.detach(): os.close(descriptor)
"""
"""The other end of a terminal is in a socket that nobody has open: it stays so until the kernel looks for such."""


@pytest.mark.levels("full", "namespaces")
def test_who_is_continued_by_the_kernel_between_two_cells_is_stopped_again(session):
    session.run(_HANGS_UP)
    pids = session.processes()
    for end in socket.socketpair():
        end.close()  # now it looks
    _wait_for(lambda: _with_terminal(pids) == [])  # and sends SIGHUP and SIGCONT
    _wait_for(lambda: _states(pids) <= set("TZX"))
    before = _ticks(pids)
    time.sleep(0.4)
    assert _ticks(pids) == before
    assert session.run("print('still here')")[1].endswith("still here\n")


@pytest.mark.levels("full", "namespaces")
def test_a_process_that_the_guest_has_stopped_stays_stopped(session):
    session.run("import os, signal, time\nchild = os.fork()\nif child == 0:\n    while True: time.sleep(0.01)")
    session.run("os.kill(child, signal.SIGSTOP)")
    code = "print(open(f'/proc/{child}/stat').read().rpartition(') ')[2][:1])"
    assert [session.run(code)[1] for _ in range(2)] == ["T\n", "T\n"]


_CONFINEMENT = """
import fcntl, resource
def status():
    names = ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters", "CapInh", "CapPrm", "CapEff", "CapAmb")
    lines = [line.split() for line in text("/proc/self/status").splitlines()]  # at `confined` it cannot be read
    return {line[0]: line[1:] for line in lines if line[0].rstrip(":") in names}
def text(place):
    try: return open(place).read()
    except OSError as error: return errno.errorcode[error.errno]
def locked(command): return attempt(fcntl.fcntl, library, command, 1)
library, watch = os.open("/usr/bin/env", os.O_RDONLY), libc.inotify_init1(0)
calls = {
    "core": call("setrlimit", 4, bytes(16)), "aio": call("io_setup", 9, ctypes.create_string_buffer(8)),
    "huge": [call("mmap", 0, 2 << 20, 3, 0x40022, -1, 0), call("memfd_create", b"x", 4), call("shmget", 7, 4096, 0o5600)],
    "leases": [locked(1024), locked(1026)], "whole": attempt(fcntl.flock, library, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "watch": call("inotify_add_watch", watch, b"/usr/bin", 0xfff), "queue": call("mq_open", b"x", 66, 0o600, 0),
    "pidfd": call("pidfd_open", os.getpid(), 0), "attributes": attempt(fcntl.ioctl, library, 0x40086602, bytes(64)),
    "host": [attempt(os.utime, "/usr/bin/env"), attempt(os.chmod, "/etc/passwd", 0o777), text("/etc/shadow")],
    "proc": [attempt(lambda: open(f"/proc/self/{name}", "w")) for name in ("clear_refs", "oom_score_adj", "mem")],
    "score": text("/proc/self/oom_score_adj"),
}
limits = {number: resource.getrlimit(number) for number in range(16) if number != resource.RLIMIT_CPU}
tell([status(), calls, limits])
"""


def test_an_interpreter_is_confined_as_the_worker_of_an_execution_is(harness, session):
    """Rights, filters, limits, and what reaches kernel state that is not the guest's own; its uid is another one."""
    as_an_execution = harness.python(_CONFINEMENT).told
    as_a_cell = json.loads(session.run(PRELUDE + _CONFINEMENT)[1])
    for facts, *_ in (as_an_execution, as_a_cell):
        ids = {*facts.pop("Uid:", ()), *facts.pop("Gid:", ())}
        assert os.geteuid() != 0 or "0" not in ids
    filters = [int(facts.pop("Seccomp_filters:", ["0"])[0]) for facts in (as_an_execution[0], as_a_cell[0])]
    assert filters == sorted(filters), "a session has one more, and none less"
    assert as_a_cell == as_an_execution


def test_a_forged_claim_ends_the_forgers_cell_and_nothing_else(session):
    forge = """
import os, socket, stat
for number in range(3, 1024):
    try:
        if stat.S_ISSOCK(os.fstat(number).st_mode):
            os.write(number, b'{"exit_code": 0, "result": {"text/plain": "forged"}}\\0')
    except OSError:
        pass
while True: pass
"""
    ending, _ = session.run(forge)
    assert ending.cell is not None
    assert ending.cell.result == {"text/plain": "forged"}
    pids = session.processes()
    before = _ticks(pids)
    time.sleep(0.2)
    assert _ticks(pids) == before, "what was to run on behind the claim stands still"
    late, _ = session.run("print('next')", wall=1.0)
    assert late.stop is not None
    assert session.run("print('after')")[1] == "after\n"


@pytest.mark.parametrize("flood", ["b'x' * 9_000_000", "b'x' * 9_000_000 + b'\\0'"], ids=["endless", "huge"])
def test_a_reply_that_is_too_long_ends_its_interpreter(session, flood):
    code = f"""
import os, stat
for number in range(3, 1024):
    try: socket = stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError: continue
    if socket:
        data = memoryview({flood})
        while data: data = data[os.write(number, data):]
while True: pass
"""
    ending, _ = session.run(code, wall=10.0)
    assert ending.cell is not None
    assert ending.cell.interpreter_restarted
    assert session.run("print('after')")[1] == "after\n"


def test_a_cell_that_closes_its_channel_ends_with_its_time(session):
    ending, _ = session.run("import os; os.closerange(3, 5000)\nwhile True: pass", wall=1.0)
    assert ending.stop is not None
    assert session.run("print('after')")[1] == "after\n"


@pytest.mark.levels("full", "namespaces")
def test_a_later_session_finds_nothing_of_an_earlier_one(harness):
    def play(code):
        sandbox = harness.wait(harness.backend.open_session(SessionPlan("ses_x", harness.settings.ceilings)))
        try:
            return Cells(harness, sandbox).run(code)[1]
        finally:
            harness.wait(sandbox.destroy())

    play(f"kept = {_MARK!r} * 1000; open('kept.txt', 'w').write(kept); import os; os.environ['KEPT'] = kept[:100]")
    for _ in range(3):
        assert play(_SEARCH) == "[]\n"
        assert play("import os; print(os.listdir(), 'KEPT' in os.environ)") == "[] False\n"


def test_two_sessions_do_not_see_one_another(harness, session):
    other = harness.wait(harness.backend.open_session(SessionPlan("ses_y", harness.settings.ceilings)))
    try:
        theirs = Cells(harness, other)
        folder = theirs.run("import os; open('secret.txt', 'w').write('secret'); print(os.getcwd())")[1].strip()
        pids = theirs.processes()
        # At `confined` the guest may not list /proc: then nothing is seen, and every number is another's.
        _, seen = session.run("import os; print(sorted(name for name in os.listdir('/proc') if name.isdigit()))")
        seen = seen if seen.startswith("[") else ""
        for pid in pids:
            _, result = session.run(
                f"try: os.kill({pid}, 0); print('reached')\nexcept OSError as error: print('refused')"
            )
            assert result == "refused\n" or str(pid) in seen
        look = f"try: print(open({folder + '/secret.txt'!r}).read())\nexcept OSError as error: print('refused')"
        assert session.run(look)[1] == "refused\n"
        assert theirs.run("print(open('secret.txt').read())")[1] == "secret\n"
        assert session.run("print(os.listdir())")[1] == "[]\n"
    finally:
        harness.wait(other.destroy())


def test_the_input_of_a_cell_is_gone_after_it(session):
    session.run("import os; place = os.readlink('/proc/self/fd/0')")
    assert session.run("print(os.path.exists(place) and place != '/dev/null')")[1] == "False\n"


_SWAP = """
import os, sys
place = os.path.dirname(os.readlink('/proc/self/fd/0'))
for action in (os.rename, os.symlink):
    try: action(*((place, place + '-') if action is os.rename else ({target!r}, place)))
    except OSError as error: print(type(error).__name__)
"""


def test_the_input_of_a_cell_is_laid_and_removed_in_no_folder_of_the_hosts(session, tmp_path):
    for number in range(20):
        (tmp_path / str(number)).write_text("the host's")
    _, printed = session.run(_SWAP.format(target=str(tmp_path)), stdin=b"given")
    assert "Error" in printed.splitlines()[0], "the folder cannot be moved"
    assert session.run("print(sys.stdin.read())", stdin=b"heard")[1] == "heard\n"
    assert {path.read_text() for path in tmp_path.iterdir()} == {"the host's"}
    assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.levels("confined")
def test_a_guest_writes_to_its_workspace_and_temporary_folder_alone(session):
    session.run("import os, tempfile; top, temp = os.path.dirname(os.getcwd()), tempfile.gettempdir()")
    code = "try: open(top + '/new', 'w')\nexcept OSError as error: print(type(error).__name__, os.path.exists(top + '/new'))"
    assert session.run(code)[1] == "PermissionError False\n"
    assert "PermissionError" in session.run("os.rename(os.getcwd(), top + '/elsewhere')")[1]
    assert session.run("print(os.listdir(top + '/workspace'))")[1] == "[]\n"
    moved = "open(temp + '/a', 'w').write('moved'); os.rename(temp + '/a', 'a'); print(open('a').read())"
    assert session.run(moved)[1] == "moved\n"


_STOPPER = (
    "python3 -c \"import os, signal\nknown = set(os.listdir('/proc'))\nprint('st' + 'ops')\nwhile True:\n"
    "  for name in set(os.listdir('/proc')) - known:\n    try: os.kill(int(name), signal.SIGSTOP)\n"
    '    except OSError: pass\n"\r'
)


@pytest.mark.levels("full", "namespaces")
def test_a_shell_that_stops_every_new_process_holds_up_no_interpreter(harness, session):
    shown, stops = bytearray(), asyncio.Event()

    def show(chunk: bytes) -> bool:
        shown.extend(chunk)
        if b"stops" in shown:
            stops.set()
        return True

    async def play() -> None:
        shell = await session.sandbox.open_shell("main", Terminal(24, 80), show)
        await shell.type(_STOPPER.encode())
        await stops.wait()
        await session.sandbox.prepare(harness.languages.find("javascript"))  # it takes longest to be armed
        await shell.close()

    harness.wait(play())
    assert session.sandbox.alive


_FILL = """
for place in ('/dev/shm/full', '/tmp/full', 'full'):
    with open(place, 'wb') as file:
        try:
            while True: file.write(bytes(2**20))
        except OSError: pass
"""


@pytest.mark.levels("full", "namespaces")
def test_a_guest_that_has_filled_its_memory_is_given_no_more_and_keeps_its_session(harness):
    limits = replace(harness.settings.ceilings, memory_bytes=96 * 2**20)
    sandbox = harness.wait(harness.backend.open_session(SessionPlan("ses_full", limits)))
    cells = Cells(harness, sandbox)
    try:
        cells.run(_FILL)
        content = bytes(4 * 2**20)
        for given, value in {"files": (InputFile("new", content),), "stdin": content}.items():
            with pytest.raises(InvalidRequest, match="not enough memory") as refused:
                cells.run("print('not run')", **{given: value})
            assert refused.value.pointer == f"/{given}"
        assert cells.run("print('after')")[1] == "after\n"
        assert sandbox.alive
    finally:
        harness.wait(sandbox.destroy())


def test_nothing_of_a_session_is_left(harness):
    sandbox = harness.wait(harness.backend.open_session(SessionPlan("ses_z", harness.settings.ceilings)))
    cells = Cells(harness, sandbox)
    cells.run(
        "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'], start_new_session=True)"
    )
    pids = cells.processes()
    assert pids
    harness.wait(sandbox.destroy())
    harness.wait(asyncio.sleep(0.1))
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
