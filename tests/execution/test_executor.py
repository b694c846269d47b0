"""Promises of the executor: what is lost before it began is replaced, nothing is run twice, nothing leaks."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from codex_server.errors import (
    Busy,
    Cancelled,
    Draining,
    LanguageUnavailable,
    SandboxFault,
    SandboxUnavailable,
    UnknownLanguage,
)
from codex_server.execution import executor
from codex_server.execution.events import Event, FileLeft, Finished, Output, Problem, Started
from codex_server.execution.executor import Executor
from codex_server.execution.run import Run
from codex_server.limits import Limits
from codex_server.model import Execution, ExecutorStats, Outcome, Status
from codex_server.sandboxes.testing.fake import FakeBackend, fake_languages
from codex_server.settings import Settings
from tests.execution.virtualtime import in_virtual_time, now, settle


@dataclass
class Book:
    """An observer that records its calls."""

    executions: list[tuple[str, Status, float | None]] = field(default_factory=list)

    def executed(
        self, language: str, status: Status, queue_seconds: float, wall_seconds: float, cpu_seconds: float | None
    ) -> None:
        assert min(queue_seconds, wall_seconds, cpu_seconds or 0) >= 0
        self.executions.append((language, status, cpu_seconds))


@dataclass
class Bench:
    """An executor on a fake backend, with its records."""

    executor: Executor
    backend: FakeBackend
    book: Book

    def run(self, code: str, language: str = "python", limits: Limits | None = None) -> Awaitable[Outcome]:
        execution = Execution("exe_1", language, code, limits=limits or Limits())
        return asyncio.ensure_future(self.executor.execute(execution))

    def submit(self, code: str) -> Run:
        return self.executor.submit(Execution("exe_1", "python", code, limits=Limits()))


def on_a_bench(test: Callable[[Bench], Awaitable[None]], **settings: object) -> None:
    """Run ``test`` in virtual time; afterwards every sandbox that was ever armed must be destroyed."""

    async def main() -> None:
        options: dict[str, object] = {"max_concurrency": 2, "queue_length": 2, "queue_seconds": 5.0} | settings
        async with FakeBackend() as backend:
            book = Book()
            executor = Executor(backend, fake_languages(), Settings(**options), metrics=book)  # type: ignore[arg-type]
            await executor.start()
            await settle()
            try:
                await test(Bench(executor, backend, book))
            finally:
                await executor.close()
                assert backend.living == []
                assert executor.stats() == ExecutorStats(0, 0, {})

    in_virtual_time(main)


def test_an_execution_has_its_outcome() -> None:
    async def test(bench: Bench) -> None:
        outcome = await bench.run("print hello\nerror oh\ncpu 2\nexit 3", "PY")
        assert (outcome.execution_id, outcome.status, outcome.exit_code) == ("exe_1", Status.FAILED, 3)
        assert (outcome.stdout.text, outcome.stderr.text) == ("hello\n", "oh\n")
        assert bench.book.executions == [("python", Status.FAILED, 2.0)]

    on_a_bench(test)


def test_only_available_languages_are_made_ready_and_kin_share_a_pool() -> None:
    async def test(bench: Bench) -> None:
        assert bench.executor.stats() == ExecutorStats(0, 0, {"python": 3, "javascript": 1})
        assert bench.executor.not_ready() == []

    on_a_bench(test, pool_sizes={"python": 3})


def test_a_program_is_sent_to_the_pool_that_serves_it_fastest() -> None:
    async def main() -> None:
        async with FakeBackend() as backend:
            backend.extra_pools = ("large",)
            settings = Settings(pool_sizes={"python": 2, "large": 1, "javascript": 0})
            executor = Executor(backend, fake_languages(), settings)
            await executor.start()
            await settle()
            assert executor.stats().armed == {"python": 2, "large": 1, "javascript": 0}
            held = asyncio.ensure_future(executor.execute(Execution("exe_1", "python", "print large\nwait end")))
            await settle()
            assert executor.stats().armed == {"python": 2, "large": 0, "javascript": 0}
            backend.event("end").set()
            assert (await held).stdout.text == "large\n"
            await executor.close()
            assert backend.living == []

    in_virtual_time(main)


def test_output_is_cut_to_the_execution_s_own_limit() -> None:
    async def test(bench: Bench) -> None:
        outcome = await bench.run("flood 1000\nerror x", limits=Limits(output_bytes=10))
        assert outcome.stdout.text == "xxxxx\n[... 990 bytes left out ...]\nxxxxx"
        assert (outcome.stdout.truncated, outcome.stdout.total_bytes) == (True, 1000)
        assert not outcome.stderr.truncated
        assert outcome.status is Status.SUCCEEDED

    on_a_bench(test)


def test_a_flood_is_stopped() -> None:
    async def test(bench: Bench) -> None:
        outcome = await bench.run("flood 100000000")
        assert outcome.status is Status.OUTPUT_EXCEEDED
        assert outcome.stdout.total_bytes < 2**20 + 2**17

    on_a_bench(test, max_flood=2**20)


def test_languages_that_are_unknown_or_missing_are_refused_before_they_take_a_place() -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(UnknownLanguage):
            await bench.run("print", "pyton")
        with pytest.raises(LanguageUnavailable):
            await bench.run("print", "cobol")
        assert bench.book.executions == []

    on_a_bench(test)


def test_two_sandboxes_that_are_lost_before_the_code_began_are_replaced_unnoticed() -> None:
    async def test(bench: Bench) -> None:
        bench.backend.runs_that_find_death = 2
        outcome = await bench.run("print once")
        assert outcome.stdout.text == "once\n"
        assert len(bench.backend.executions) == 1
        assert bench.book.executions == [("python", Status.SUCCEEDED, 0.0)]

    on_a_bench(test)


def test_after_three_lost_sandboxes_the_caller_is_told() -> None:
    async def test(bench: Bench) -> None:
        bench.backend.runs_that_find_death = 3
        with pytest.raises(SandboxUnavailable):
            await bench.run("print never")
        assert bench.backend.executions == []
        assert bench.book.executions == []
        assert (await bench.run("print again")).status is Status.SUCCEEDED

    on_a_bench(test)


def test_nobody_waits_for_another_sandbox_after_a_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(executor, "_RETRY_SECONDS", -1.0)
        bench.backend.runs_that_find_death = 1
        with pytest.raises(SandboxUnavailable):
            await bench.run("print never")
        assert bench.backend.executions == []

    on_a_bench(test)


def test_arming_that_fails_twice_is_tried_again() -> None:
    async def test(bench: Bench) -> None:
        bench.backend.arms_that_fail = 2
        assert (await bench.run("print")).status is Status.SUCCEEDED

    on_a_bench(test, pool_sizes={"python": 0})


def test_what_was_lost_after_it_began_is_never_run_again() -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(SandboxFault):
            await bench.run("print begun\ndie")
        assert len(bench.backend.executions) == 1
        assert bench.book.executions == [], "nobody knows how it ended"
        assert bench.executor.stats().running == 0

    on_a_bench(test)


def test_beyond_the_places_executions_wait_and_beyond_the_room_they_are_refused() -> None:
    async def test(bench: Bench) -> None:
        runs = [bench.run("wait go") for _ in range(4)]
        await settle()
        stats = bench.executor.stats()
        assert (stats.running, stats.queued) == (2, 2)
        with pytest.raises(Busy):
            await bench.run("print")
        bench.backend.event("go").set()
        outcomes = await asyncio.gather(*runs)
        assert [outcome.status for outcome in outcomes] == [Status.SUCCEEDED] * 4
        assert len(bench.book.executions) == 4

    on_a_bench(test)


def test_a_place_is_held_until_what_an_execution_left_is_kept() -> None:
    async def test(bench: Bench) -> None:
        kept = asyncio.Event()

        async def keep(outcome: Outcome) -> Outcome:
            await kept.wait()
            return outcome

        first = bench.executor.submit(Execution("exe_1", "python", "write a b", limits=Limits()), keep)
        second = bench.run("print b")
        await settle()
        assert (bench.executor.stats().running, bench.executor.stats().queued) == (1, 1)
        assert not first.ended
        kept.set()
        assert (await first.outcome()).status is Status.SUCCEEDED
        assert (await second).stdout.text == "b\n"

    on_a_bench(test, max_concurrency=1)


def test_waiting_beyond_the_queue_seconds_is_refused() -> None:
    async def test(bench: Bench) -> None:
        held = [bench.run("wait go", limits=Limits(wall_seconds=100)) for _ in range(2)]
        with pytest.raises(Busy, match="within 5 s"):
            await bench.run("print")
        assert now() == 5
        bench.backend.event("go").set()
        await asyncio.gather(*held)

    on_a_bench(test)


def test_the_wait_is_no_part_of_the_wall_time() -> None:
    async def test(bench: Bench) -> None:
        held = [bench.run("wait never", limits=Limits(wall_seconds=2)) for _ in range(2)]
        waiting = bench.run("wait later", limits=Limits(wall_seconds=3))
        await asyncio.sleep(4)
        bench.backend.event("later").set()
        assert [(await run).status for run in held] == [Status.TIMED_OUT] * 2
        assert (await waiting).status is Status.SUCCEEDED

    on_a_bench(test)


def test_cancelling_the_caller_kills_the_program_and_frees_its_place() -> None:
    async def test(bench: Bench) -> None:
        run = asyncio.ensure_future(bench.run("wait never"))
        await settle()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await settle()
        assert bench.backend.armed[0].destroyed
        assert bench.executor.stats().running == 0
        assert bench.book.executions == [("python", Status.CANCELLED, None)]

    on_a_bench(test)


def test_cancelling_a_caller_who_waits_is_no_execution() -> None:
    async def test(bench: Bench) -> None:
        held = [bench.run("wait go") for _ in range(2)]
        waiting = asyncio.ensure_future(bench.run("print"))
        await settle()
        waiting.cancel()
        await settle()
        assert bench.executor.stats().queued == 0
        bench.backend.event("go").set()
        await asyncio.gather(*held)
        assert len(bench.book.executions) == 2

    on_a_bench(test)


def test_draining_refuses_newcomers_and_lets_those_that_run_and_wait_finish() -> None:
    async def test(bench: Bench) -> None:
        runs = [bench.run("wait go") for _ in range(3)]
        await settle()
        drained = asyncio.ensure_future(bench.executor.drain(60))
        await settle()
        assert bench.executor.draining
        assert "the server is stopping" in bench.executor.not_ready()
        with pytest.raises(Draining):
            await bench.run("print")
        assert not drained.done()
        bench.backend.event("go").set()
        await drained
        assert [(await run).status for run in runs] == [Status.SUCCEEDED] * 3
        assert now() < 1

    on_a_bench(test)


def test_a_drain_without_executions_ends_at_once() -> None:
    async def test(bench: Bench) -> None:
        await bench.executor.drain(60)
        assert now() == 0

    on_a_bench(test)


def test_what_is_left_after_the_drain_is_cancelled_with_its_output_and_what_waits_is_refused() -> None:
    async def test(bench: Bench) -> None:
        running = [bench.run("print so far\nwait never", limits=Limits(wall_seconds=100)) for _ in range(2)]
        waiting = bench.run("print")
        await settle()
        await bench.executor.drain(3)
        assert now() == 3
        outcomes = await asyncio.gather(*running)
        assert {(o.status, o.stdout.text, o.exit_code, o.signal) for o in outcomes} == {
            (Status.CANCELLED, "so far\n", 137, "SIGKILL")
        }
        assert {outcome.ending.wall_seconds >= 0 for outcome in outcomes} == {True}
        with pytest.raises(Draining):
            await waiting

    on_a_bench(test, queue_seconds=50)


def test_a_run_that_is_abandoned_before_its_first_step_is_forgotten() -> None:
    async def test(bench: Bench) -> None:
        await bench.submit("wait never").abandon()
        await bench.executor.drain(60)
        assert now() == 0

    on_a_bench(test)


def test_closing_without_draining_ends_everything() -> None:
    async def test(bench: Bench) -> None:
        run = bench.run("wait never")
        await settle()
        await bench.executor.close()
        await bench.executor.close()
        assert (await run).status is Status.CANCELLED

    on_a_bench(test)


def test_a_backend_that_cannot_arm_and_a_pool_that_is_empty_are_told() -> None:
    async def test(bench: Bench) -> None:
        bench.backend.trouble = "the zygote is being restarted"
        assert bench.executor.not_ready() == ["the zygote is being restarted"]

    on_a_bench(test)


def test_a_pool_that_has_never_been_filled_is_not_ready() -> None:
    async def main() -> None:
        executor = Executor(FakeBackend(), fake_languages(), Settings())
        await executor.start()
        assert executor.not_ready() == [
            "no sandbox of the pool python is ready yet",
            "no sandbox of the pool javascript is ready yet",
        ]
        await executor.close()

    in_virtual_time(main)


def facts_of(events: list[Event]) -> list[str | type]:
    return [event.fact.text if isinstance(event.fact, Output) else type(event.fact) for event in events]


def test_a_run_is_followed_while_it_runs_and_read_again_when_it_has_ended() -> None:
    async def test(bench: Bench) -> None:
        run = bench.submit("print a\nwait go\nerror b\nwrite out.txt x")
        events = aiter(run.events())
        first = [await anext(events) for _ in range(2)]
        assert facts_of(first) == [Started, "a\n"]
        assert not run.ended
        bench.backend.event("go").set()
        rest = [event async for event in events]
        assert facts_of(rest) == ["b\n", FileLeft, Finished]
        assert first + rest == [event async for event in run.events()]
        assert isinstance(rest[-1].fact, Finished)
        assert rest[-1].fact.outcome is await run.outcome()

    on_a_bench(test)


def test_whoever_waits_for_a_run_may_leave_and_it_goes_on() -> None:
    async def test(bench: Bench) -> None:
        run = bench.submit("wait go\nprint a")
        waiting = asyncio.ensure_future(run.outcome())
        await settle()
        waiting.cancel()
        await settle()
        bench.backend.event("go").set()
        assert (await run.outcome()).stdout.text == "a\n"

    on_a_bench(test)


def test_a_refused_run_says_so_before_anything_was_sent_and_in_its_only_event() -> None:
    async def test(bench: Bench) -> None:
        running = [bench.submit("wait go") for _ in range(4)]
        await settle()
        await running[0].admitted()
        refused = bench.submit("print never")
        with pytest.raises(Busy):
            await refused.admitted()
        assert [type(event.fact) async for event in refused.events()] == [Problem]
        bench.backend.event("go").set()
        for run in running:
            await run.outcome()

    on_a_bench(test)


def test_a_run_whose_sandbox_is_replaced_starts_once() -> None:
    async def test(bench: Bench) -> None:
        bench.backend.runs_that_find_death = 2
        run = bench.submit("print once")
        assert facts_of([event async for event in run.events()]) == [Started, "once\n", Finished]

    on_a_bench(test)


def test_a_run_can_be_cancelled_before_and_after_it_begins_and_when_it_has_ended() -> None:
    async def test(bench: Bench) -> None:
        run = bench.submit("print a\nwait never")
        await run.admitted()
        await settle()
        run.cancel()
        assert ((outcome := await run.outcome()).status, outcome.stdout.text) == (Status.CANCELLED, "a\n")
        run.cancel()
        assert await run.outcome() is outcome
        early = bench.submit("print never")
        early.cancel()
        with pytest.raises(Cancelled):
            await early.outcome()
        assert len(bench.backend.executions) == 1

    on_a_bench(test)


def test_a_thousand_executions_with_every_kind_of_luck_leak_nothing() -> None:
    codes = ["print x", "exit 3", "die", "oom", "hang", "flood 5000000", "wait never", "nonsense"]

    async def test(bench: Bench) -> None:
        for number in range(0, 1000, 8):
            bench.backend.runs_that_find_death = number % 4
            bench.backend.arms_that_fail = number % 3
            runs = [asyncio.ensure_future(bench.run(code)) for code in codes]
            await settle()
            runs[number % 8].cancel()
            await asyncio.gather(*runs, return_exceptions=True)
        assert bench.executor.stats().running == 0

    on_a_bench(test, max_concurrency=4, queue_length=8, max_flood=2**20)
