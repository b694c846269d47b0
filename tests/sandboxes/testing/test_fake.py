"""The fake keeps the contract's other half too: what a sandbox and a backend promise beside running programs."""

import asyncio

import pytest

from codex_server.errors import SandboxFault, SandboxUnavailable
from codex_server.limits import Limits
from codex_server.model import Ending, Execution, Status, Stream
from codex_server.sandboxes.base import IsolationLevel
from codex_server.sandboxes.testing.fake import FakeBackend, fake_languages

pytestmark = pytest.mark.anyio
PYTHON = fake_languages().find("python")


def deaf(stream: Stream, chunk: bytes) -> bool:
    return True


async def run(backend: FakeBackend, code: str, limits: Limits | None = None) -> Ending:
    sandbox = await backend.arm(PYTHON)
    try:
        return await sandbox.run(Execution("exe_1", "python", code, limits or Limits()), PYTHON, deaf)
    finally:
        await sandbox.destroy()


async def test_a_sandbox_serves_one_execution_and_is_then_used_up() -> None:
    async with FakeBackend() as backend:
        sandbox = await backend.arm(PYTHON)
        assert sandbox.alive
        execution = Execution("exe_1", "python", "exit 0")
        assert (await sandbox.run(execution, PYTHON, deaf)).status is Status.SUCCEEDED
        assert not sandbox.alive
        with pytest.raises(SandboxUnavailable):
            await sandbox.run(execution, PYTHON, deaf)
        assert backend.executions == [execution]


async def test_destroying_twice_is_safe_and_the_account_is_kept() -> None:
    backend = FakeBackend()
    sandbox = await backend.arm(PYTHON)
    assert backend.living == [sandbox]
    await sandbox.destroy()
    await sandbox.destroy()
    assert backend.living == []
    assert len(backend.armed) == 1


async def test_closing_the_backend_destroys_what_is_left() -> None:
    async with FakeBackend() as backend:
        await backend.arm(PYTHON)
    assert backend.living == []


async def test_a_sandbox_that_died_waiting_runs_nothing() -> None:
    backend = FakeBackend()
    sandbox = await backend.arm(PYTHON)
    backend.armed[0].dead = True
    assert not sandbox.alive
    with pytest.raises(SandboxUnavailable):
        await sandbox.run(Execution("exe_1", "python", "print"), PYTHON, deaf)
    assert backend.executions == []


async def test_arming_and_running_fail_as_often_as_they_are_set_to() -> None:
    backend = FakeBackend()
    backend.arms_that_fail, backend.runs_that_find_death = 1, 1
    with pytest.raises(SandboxUnavailable):
        await backend.arm(PYTHON)
    with pytest.raises(SandboxUnavailable):
        await run(backend, "print")
    assert (await run(backend, "print")).exit_code == 0


async def test_a_lost_sandbox_is_a_fault() -> None:
    with pytest.raises(SandboxFault):
        await run(FakeBackend(), "print\ndie")


async def test_a_script_waits_for_the_test() -> None:
    backend = FakeBackend()
    task = asyncio.ensure_future(run(backend, "wait go\nexit 5"))
    while not backend.executions:
        await asyncio.sleep(0)
    assert not task.done()
    backend.event("go").set()
    assert (await task).exit_code == 5


async def test_waiting_ends_with_the_wall_time_and_hanging_reaches_it_at_once() -> None:
    backend = FakeBackend()
    waited = await run(backend, "wait for-ever", Limits(wall_seconds=0.01))
    hung = await run(backend, "hang", Limits(wall_seconds=30))
    assert waited.status is hung.status is Status.TIMED_OUT
    assert hung.wall_seconds == 30


async def test_cancelling_leaves_by_the_script() -> None:
    backend = FakeBackend()
    task = asyncio.ensure_future(run(backend, "wait for-ever"))
    while not backend.executions:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.living == []


async def test_a_sink_that_has_enough_stops_the_script() -> None:
    backend, chunks = FakeBackend(), []

    def full(stream: Stream, chunk: bytes) -> bool:
        chunks.append(len(chunk))
        return len(chunks) < 3

    sandbox = await backend.arm(PYTHON)
    ending = await sandbox.run(Execution("exe_1", "python", "flood 1000000"), PYTHON, full)
    assert ending.status is Status.OUTPUT_EXCEEDED
    assert chunks == [65536] * 3


async def test_a_word_that_is_not_known_fails_like_a_program_and_says_why() -> None:
    backend, reported = FakeBackend(), []
    sandbox = await backend.arm(PYTHON)

    def listen(stream: Stream, chunk: bytes) -> bool:
        reported.append((stream, chunk))
        return True

    ending = await sandbox.run(Execution("exe_1", "python", "dance"), PYTHON, listen)
    assert (ending.exit_code, reported) == (2, [(Stream.STDERR, b"the fake does not know the word 'dance'\n")])


async def test_the_backend_reports_of_itself() -> None:
    async with FakeBackend() as backend:
        assert backend.isolation.level is IsolationLevel.FULL
        assert backend.problem() is None
        assert backend.pool_keys(fake_languages().find("ts")) == ("javascript",)
        assert backend.pool_key(fake_languages().find("ts"), "out x") == "javascript"
        backend.extra_pools = ("large",)
        assert backend.pool_keys(PYTHON) == ("python", "large")
        assert backend.pool_key(PYTHON, "out large") == "large"
        assert backend.pool_key(PYTHON, "out small") == "python"
