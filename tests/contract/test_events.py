"""The events of an execution, in every order that a program can cause, on every backend and level."""

import pytest

from codex_server.errors import Cancelled
from codex_server.execution.events import Fact, FileLeft, Finished, Gap, Output, Problem, Started
from codex_server.model import Execution, Status, Stream
from tests.contract.harness import Harness

_SAY = """
import fcntl, os, struct, termios, time

def say(stream, text):
    os.write(stream, text.encode())
    while struct.unpack('i', fcntl.ioctl(stream, termios.FIONREAD, bytes(4)))[0]:
        time.sleep(0.001)
"""
"""``say`` returns when its pipe was read: else two streams come in the order in which they happen to be read."""

ORDERS = {
    "nothing": ("", ["started", "succeeded"]),
    "stdout then stderr": ("say(1, 'a')\nsay(2, 'b')", ["started", "stdout a", "stderr b", "succeeded"]),
    "stderr then stdout": ("say(2, 'b')\nsay(1, 'a')", ["started", "stderr b", "stdout a", "succeeded"]),
    "interleaved": (
        "for n in '123':\n    say(1, n)\n    say(2, n)",
        ["started", "stdout 1", "stderr 1", "stdout 2", "stderr 2", "stdout 3", "stderr 3", "succeeded"],
    ),
    "files after output": (
        "open('b', 'w').write('x')\nopen('a', 'w').write('x')\nsay(1, 'late')",
        ["started", "stdout late", "file a", "file b", "succeeded"],
    ),
    "a failure after output": ("say(1, 'a')\nraise SystemExit(3)", ["started", "stdout a", "failed"]),
}


def word(fact: Fact) -> str:
    match fact:
        case Started():
            return "started"
        case Output(stream, text):
            return f"{stream.value} {text}"
        case Gap(stream):
            return f"gap {stream.value}"
        case FileLeft(file):
            return f"file {file.path}"
        case Finished(outcome):
            return outcome.status.value
        case Problem(error):
            return f"problem {type(error).__name__}"


async def facts_of(harness: Harness, execution: Execution) -> list[Fact]:
    """The events as a reader that keeps up gets them; their numbers rise by one."""
    events = [event async for event in harness.executor.submit(execution).events()]
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    return [event.fact for event in events]


@pytest.mark.parametrize("order", ORDERS)
def test_events_come_in_the_order_in_which_they_happened(harness: Harness, order: str) -> None:
    code, wanted = ORDERS[order]
    facts = harness.wait(facts_of(harness, harness.execution("python", _SAY + code)))
    assert [word(fact) for fact in facts] == wanted


def test_whoever_reads_late_gets_a_gap_of_just_what_is_missing(harness: Harness) -> None:
    execution = harness.execution("python", _SAY + "for _ in range(50): say(1, 'x' * 1000)", {"output_bytes": 4000})

    async def late() -> list[Fact]:
        run = harness.executor.submit(execution)
        assert (await run.outcome()).status is Status.SUCCEEDED
        return [event.fact async for event in run.events()]

    first, *between, last = harness.wait(late())
    kept = sum(len(fact.text) for fact in between if isinstance(fact, Output))
    gaps = [fact for fact in between if isinstance(fact, Gap)]
    assert isinstance(first, Started)
    assert isinstance(last, Finished)
    assert gaps == [Gap(Stream.STDOUT, 50_000 - kept)]
    assert isinstance(between[0], Output), "the head is before the gap"
    assert isinstance(between[-1], Output), "the tail is after it"


def test_an_execution_that_has_no_outcome_has_a_problem_as_its_only_event(harness: Harness) -> None:
    async def cancelled_at_once() -> list[Fact]:
        run = harness.executor.submit(harness.execution("python", "print(1)"))
        run.cancel()
        return [event.fact async for event in run.events()]

    (fact,) = harness.wait(cancelled_at_once())
    assert isinstance(fact, Problem)
    assert isinstance(fact.error, Cancelled)
