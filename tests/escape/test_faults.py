"""When a part of ours is killed, nobody is told a wrong outcome, nothing is left, and the next execution is right."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_server.errors import SandboxFault, SandboxUnavailable
from codex_server.languages import Languages
from codex_server.sandboxes.base import IsolationLevel
from codex_server.sandboxes.embedded.sandbox import EmbeddedSandbox
from tests.escape.conftest import Harnesses
from tests.escape.sandbox_harness import SandboxHarness, Sink
from tests.host_snapshot import HostSnapshot, alive, assert_clean_since, cgroups_of, descendants, next_guest_ids
from tests.waiting import until

READY_AND_BUSY = """
    import time
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
    print("ready", flush=True)
    while True: time.sleep(0.01)
"""
READY_AND_FLOODING = """
    print("ready", flush=True)
    while True: os.write(1, b"x" * 4096)
"""


@pytest.fixture
def own_harness(harnesses: Harnesses, level: str) -> Iterator[SandboxHarness]:
    """A harness of the test's own, whose parts it may break; afterwards nothing of it is left."""
    harnesses.at(level)  # or a skip
    before = HostSnapshot.take()
    harness = harnesses.new(level, max_sessions=4)  # few slots: one test takes them all
    harness.open()
    yield harness
    harness.close()
    assert_clean_since(before)


def pid_behind(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def kill_init(sandbox: EmbeddedSandbox) -> None:
    signal.pidfd_send_signal(sandbox.slot.pidfd, signal.SIGKILL)


def launcher_of(harness: SandboxHarness) -> int:
    supervisor = harness.backend._plain
    assert supervisor is not None
    zygote = supervisor._zygote
    assert zygote is not None
    return zygote._launcher.pid


def zygote_of(harness: SandboxHarness) -> int:
    (zygote,) = descendants(launcher_of(harness))[:1]
    return zygote


def assert_works(harness: SandboxHarness) -> None:
    seen = harness.python("print(6 * 7)")
    assert (seen.status, seen.stdout) == ("succeeded", "42\n")


@pytest.mark.embedded
@pytest.mark.parametrize("program", [READY_AND_BUSY, READY_AND_FLOODING], ids=["busy", "flooding"])
def test_an_init_that_is_killed_is_a_fault_and_takes_its_guest_with_it(harness, program):
    with pytest.raises(SandboxFault):
        harness.disturbed(program, "ready", kill_init)


@pytest.mark.embedded
def test_an_init_that_is_killed_before_its_turn_is_told_as_unavailable(harness):
    async def scenario() -> None:
        sandbox = await harness.arm("python")
        kill_init(sandbox)
        try:
            assert await asyncio.to_thread(until, lambda: not sandbox.alive)
            with pytest.raises(SandboxUnavailable):
                await harness._run_in(sandbox, "python", "print(1)", {}, Sink())
        finally:
            await sandbox.destroy()

    harness.wait(asyncio.wait_for(scenario(), 30))


@pytest.mark.embedded
def test_a_zygote_that_is_killed_is_started_again(own_harness):
    def kill(sandbox: EmbeddedSandbox) -> None:
        os.kill(zygote_of(own_harness), signal.SIGKILL)

    try:
        seen = own_harness.disturbed(READY_AND_BUSY, "ready", kill, wall_seconds=2)
    except SandboxFault:
        pass  # its slots die with it
    else:
        assert own_harness.level is IsolationLevel.CONFINED  # its slots live on, and tell the truth
        assert seen.status == "timed_out"

    async def problem() -> str | None:
        return own_harness.backend.problem()

    assert until(lambda: own_harness.wait(problem()) is not None)
    assert_works(own_harness)
    assert until(lambda: own_harness.wait(problem()) is None)


@pytest.mark.tier("change")
@pytest.mark.embedded
def test_a_launcher_that_is_killed_takes_everything_with_it_and_is_started_again(own_harness):
    before = descendants(launcher_of(own_harness))

    def kill(sandbox: EmbeddedSandbox) -> None:
        os.kill(launcher_of(own_harness), signal.SIGKILL)

    try:
        seen = own_harness.disturbed(READY_AND_BUSY, "ready", kill, wall_seconds=2)
    except SandboxFault:
        pass
    else:
        assert own_harness.level is IsolationLevel.CONFINED
        assert seen.status == "timed_out"
    assert until(lambda: not any(alive(pid) for pid in before))
    assert_works(own_harness)


def test_a_cancelled_execution_leaves_nothing(harness):
    async def scenario() -> None:
        sandbox = await harness.arm("python")
        run = asyncio.ensure_future(harness._run_in(sandbox, "python", textwrap.dedent("while True: pass"), {}, Sink()))
        await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    harness.wait(asyncio.wait_for(scenario(), 30))


def test_an_arming_that_is_cancelled_leaves_nothing(harness):
    async def scenario() -> None:
        for turns in range(12):
            arming = asyncio.ensure_future(harness.arm("python"))
            for _ in range(turns):
                await asyncio.sleep(0)
            arming.cancel()
            try:
                await (await arming).destroy()
            except asyncio.CancelledError:
                continue
        await harness.backend._arming.settle()

    harness.wait(asyncio.wait_for(scenario(), 60))


@pytest.mark.tier("change")
@pytest.mark.embedded
def test_every_slot_can_be_taken_and_given_back(own_harness):
    async def scenario() -> int:
        taken = []
        with pytest.raises(SandboxUnavailable, match="in use"):
            while True:
                taken.append(await own_harness.arm("python"))
        numbers = [sandbox.slot.number for sandbox in taken]
        assert len(set(numbers)) == len(numbers)
        for sandbox in taken:
            await sandbox.destroy()
            await sandbox.destroy()
        return len(taken)

    assert own_harness.wait(scenario()) == own_harness.wait(scenario())
    assert_works(own_harness)


SERVER = """
import asyncio, sys
from codex_server.languages import load_languages
from codex_server.model import Execution
from codex_server.sandboxes.base import IsolationLevel
from codex_server.sandboxes.embedded.backend import EmbeddedBackend
from codex_server.settings import Settings

async def main():
    level, ids = sys.argv[1:]
    languages = load_languages()
    settings = Settings(min_isolation=level, guest_ids=ids)
    backend = EmbeddedBackend(settings, languages, most=IsolationLevel[level.upper()])
    await backend.start()
    python = languages.find("python")
    armed = [await backend.arm(python) for _ in range(3)]
    code = "import os, time; os.fork(); os.fork(); print('ready', flush=True); time.sleep(600)"
    await armed[0].run(Execution("exe_x", "python", code, Settings(max_timeout=600).ceilings), python,
                       lambda stream, chunk: bool(print(chunk.decode(), end="", flush=True)) or True)

asyncio.run(main())
"""


def start_server(harness: SandboxHarness, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVER, str(harness.level), next_guest_ids()],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


@pytest.mark.embedded
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "terminate"])
def test_a_server_that_is_killed_leaves_nothing_behind(harness, temporary_folder, number):
    folder = Path(tempfile.mkdtemp(dir=temporary_folder))
    folder.chmod(0o711)
    with start_server(harness, folder) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            below = descendants(server.pid)
            assert len(below) >= 6
            assert (cgroups_of(server.pid) != []) is (harness.level is IsolationLevel.FULL)
        finally:
            server.send_signal(number)
        server.wait(30)
        assert until(lambda: not any(alive(pid) for pid in below)), [pid for pid in below if alive(pid)]
        assert until(lambda: cgroups_of(server.pid) == [])
        assert until(lambda: os.listdir(folder) == [])
    folder.rmdir()


def test_a_server_whose_launcher_died_with_it_is_swept_by_the_next(harnesses, languages: Languages):
    harness = harnesses.at("full")
    own = next(path for path in cgroups_of(os.getpid()) if path.parent.name != path.name)
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = own.parent / f"codex-server-{gone.pid}-1-abcdef"
    left.mkdir()
    (left / "slot-1").mkdir()
    other = harnesses.new("full")
    other.open()
    other.close()
    assert not left.exists()
    assert own.exists()
    assert_works(harness)
