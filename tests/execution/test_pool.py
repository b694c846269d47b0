"""Promises of a pool: warm, refilled behind, never a dead sandbox, never a leak."""

import asyncio
import logging
from typing import cast

import pytest

from codex_server.errors import SandboxUnavailable
from codex_server.execution import pool as pools
from codex_server.execution.pool import Pool
from codex_server.model import Stdio
from codex_server.sandboxes.testing.fake import FakeBackend, FakeSandbox, fake_languages
from tests.execution.virtualtime import in_virtual_time, now, settle

PYTHON = fake_languages().find("python")


async def filled(backend: FakeBackend, size: int = 2) -> Pool:
    pool = Pool("python", size, backend, PYTHON)
    pool.start()
    await settle()
    return pool


def test_a_started_pool_fills_itself_and_is_then_ready() -> None:
    async def main() -> None:
        backend = FakeBackend()
        pool = Pool("python", 3, backend, PYTHON)
        assert pool.problem == "no sandbox of the pool python is ready yet"
        pool.start()
        await settle()
        assert (pool.armed, pool.problem) == (3, None)
        await pool.close()

    in_virtual_time(main)


def test_a_checkout_takes_what_stands_ready_and_arms_nothing() -> None:
    async def main() -> None:
        backend = FakeBackend()
        pool = await filled(backend)
        async with pool.checkout(PYTHON) as sandbox:
            assert sandbox is backend.armed[0]
            assert len(backend.armed) == 2
        await pool.close()

    in_virtual_time(main)


def test_a_checkout_with_other_streams_arms_a_sandbox_and_leaves_what_stands_ready() -> None:
    async def main() -> None:
        backend = FakeBackend()
        pool = await filled(backend)
        async with pool.checkout(PYTHON, Stdio(merged=True)) as sandbox:
            assert sandbox is backend.armed[2]
            assert pool.armed == 2
        await pool.close()
        assert backend.living == []

    in_virtual_time(main)


def test_the_gap_is_filled_after_the_execution_has_ended() -> None:
    async def main() -> None:
        backend = FakeBackend()
        pool = await filled(backend)
        async with pool.checkout(PYTHON):
            await settle()
            assert pool.armed == 1, "the execution has the processors to itself"
        await settle()
        assert pool.armed == 1, "and its answer goes first"
        await asyncio.sleep(0.01)
        assert pool.armed == 2
        await pool.close()

    in_virtual_time(main)


def test_the_gap_is_filled_while_a_long_execution_still_runs() -> None:
    async def main() -> None:
        backend = FakeBackend()
        pool = await filled(backend)
        async with pool.checkout(PYTHON):
            await asyncio.sleep(1)
            assert pool.armed == 2
        await pool.close()

    in_virtual_time(main)


def test_sandboxes_that_die_while_nobody_asks_are_replaced() -> None:
    async def main() -> None:
        backend = FakeBackend()
        pool = await filled(backend)
        for sandbox in backend.armed:
            sandbox.dead = True
        assert pool.armed == 0
        await asyncio.sleep(3)
        assert pool.armed == 2
        await pool.close()

    in_virtual_time(main)


def test_a_refill_arms_one_sandbox_at_a_time() -> None:
    async def main() -> None:
        backend, gates = FakeBackend(), []

        def gate() -> asyncio.Future[None]:
            gates.append(asyncio.get_running_loop().create_future())
            return gates[-1]

        backend.arming = gate
        pool = await filled(backend, size=3)
        for armed in range(3):
            assert len(gates) == armed + 1
            gates[-1].set_result(None)
            await settle()
        assert pool.armed == 3
        await pool.close()

    in_virtual_time(main)


def test_dead_sandboxes_are_thrown_away_at_checkout_and_replaced() -> None:
    async def main() -> None:
        backend = FakeBackend()
        pool = await filled(backend)
        dead = list(backend.armed)
        for sandbox in dead:
            sandbox.dead = True
        assert pool.armed == 0
        async with pool.checkout(PYTHON) as sandbox:
            assert sandbox.alive
        await asyncio.sleep(0.01)
        assert all(sandbox.destroyed for sandbox in dead)
        assert pool.armed == 2
        await pool.close()

    in_virtual_time(main)


def test_an_empty_pool_arms_on_demand_for_everyone_at_once() -> None:
    async def main() -> None:
        backend = FakeBackend()
        backend.arming = lambda: asyncio.ensure_future(asyncio.sleep(1))
        pool = Pool("python", 0, backend, PYTHON)
        pool.start()
        assert pool.problem is None

        async def use() -> None:
            async with pool.checkout(PYTHON) as sandbox:
                assert sandbox.alive

        await asyncio.gather(*(use() for _ in range(5)))
        assert now() == 1, "they were armed side by side"
        assert len(backend.armed) == 5
        await pool.close()
        assert backend.living == []

    in_virtual_time(main)


def test_a_failing_refill_is_tried_again_ever_more_slowly_and_the_reason_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> list[float]:
        backend, pauses = FakeBackend(), []
        backend.arms_that_fail = 12

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            assert "the pool python cannot be filled: the fake was told" in cast("str", pool.problem)
            await asyncio.sleep(seconds)

        pool = Pool("python", 2, backend, PYTHON, sleep=sleep)
        pool.start()
        await asyncio.sleep(300)
        assert (pool.armed, pool.problem) == (2, None)
        await pool.close()
        return pauses

    with caplog.at_level(logging.WARNING):
        pauses = in_virtual_time(main)
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(pauses) == pauses[-1] == 30
    assert len(caplog.records) == 12


def test_the_refill_survives_a_defect_in_the_backend(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        backend = FakeBackend()

        def broken() -> asyncio.Future[None]:
            backend.arming = None
            raise KeyError("a defect")

        backend.arming = broken
        pool = Pool("python", 1, backend, PYTHON)
        pool.start()
        await settle()
        assert pool.problem == "the pool python cannot be filled: an internal error; see the server's log"
        await asyncio.sleep(1)
        assert (pool.armed, pool.problem) == (1, None)
        await pool.close()

    in_virtual_time(main)
    assert "a defect" in caplog.text


def test_arming_that_never_ends_is_given_up() -> None:
    async def main() -> None:
        backend = FakeBackend()
        backend.arming = lambda: asyncio.get_running_loop().create_future()
        pool = Pool("python", 0, backend, PYTHON)
        with pytest.raises(SandboxUnavailable, match="within 30 s"):
            await pool.checkout(PYTHON).__aenter__()
        assert now() == 30

    in_virtual_time(main)


def test_cancelling_while_arming_on_demand_leaves_nothing() -> None:
    async def main() -> None:
        backend = FakeBackend()
        backend.arming = lambda: asyncio.ensure_future(asyncio.sleep(1))
        pool = Pool("python", 0, backend, PYTHON)
        task = asyncio.ensure_future(pool.checkout(PYTHON).__aenter__())
        await settle()
        task.cancel()
        await asyncio.sleep(5)
        assert backend.armed == []
        await pool.close()

    in_virtual_time(main)


def test_a_sandbox_is_destroyed_after_use_even_when_its_user_fails() -> None:
    async def main() -> None:
        backend = FakeBackend()
        pool = await filled(backend, size=1)
        with pytest.raises(ZeroDivisionError):
            async with pool.checkout(PYTHON):
                raise ZeroDivisionError
        await settle()
        assert backend.armed[0].destroyed
        await pool.close()
        assert backend.living == []

    in_virtual_time(main)


def test_destroying_is_off_the_path_of_the_answer_and_awaited_at_close(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slowly(sandbox: FakeSandbox) -> None:
        await asyncio.sleep(3)
        sandbox.destroyed = True

    monkeypatch.setattr(FakeSandbox, "destroy", slowly)

    async def main() -> None:
        backend = FakeBackend()
        pool = await filled(backend, size=1)
        async with pool.checkout(PYTHON):
            pass
        assert now() == 0
        await pool.close()
        assert backend.living == []
        assert now() == pytest.approx(3, abs=0.01)

    in_virtual_time(main)


def test_a_sandbox_that_will_not_die_does_not_hold_the_close_up_and_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def never(_: FakeSandbox) -> None:
        await asyncio.sleep(1e6)

    monkeypatch.setattr(FakeSandbox, "destroy", never)

    async def main() -> None:
        pool = await filled(FakeBackend(), size=2)
        await pool.close()
        assert now() == 10

    in_virtual_time(main)
    assert "2 sandboxes of the pool python could not be destroyed" in caplog.text


def test_a_failure_to_destroy_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: FakeSandbox) -> None:
        raise OSError("will not go")

    monkeypatch.setattr(FakeSandbox, "destroy", broken)
    in_virtual_time(lambda: _fill_and_close(FakeBackend()))
    assert "could not be destroyed" in caplog.text
    assert "will not go" in caplog.text


async def _fill_and_close(backend: FakeBackend) -> None:
    await (await filled(backend)).close()


def test_making_sandboxes_does_not_outrun_destroying_them(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0

    async def slowly(sandbox: FakeSandbox) -> None:
        await asyncio.sleep(1)
        sandbox.destroyed = True

    monkeypatch.setattr(FakeSandbox, "destroy", slowly)
    monkeypatch.setattr(pools, "_MOST_BEING_DESTROYED", 3)

    async def main() -> None:
        nonlocal most
        backend = FakeBackend()
        pool = Pool("python", 0, backend, PYTHON)
        for _ in range(20):
            async with pool.checkout(PYTHON):
                most = max(most, len(backend.living))
        await pool.close()
        assert backend.living == []

    in_virtual_time(main)
    assert most <= 4, "three that are being destroyed, and the one in use"


def test_close_ends_a_refill_that_is_under_way() -> None:
    async def main() -> None:
        backend = FakeBackend()
        backend.arming = lambda: asyncio.ensure_future(asyncio.sleep(20))
        pool = await filled(backend)
        await pool.close()
        assert now() == 0
        await asyncio.sleep(60)
        assert backend.armed == []

    in_virtual_time(main)
