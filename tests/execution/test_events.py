"""The events of an execution: numbered, whole on characters, bounded, and read by anyone at any pace."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from codex_server.errors import Busy
from codex_server.execution.events import _MOST_EVENTS, Event, EventLog, FileLeft, Gap, Output, Problem, Started
from codex_server.model import OutputFile, Stream
from tests.execution.virtualtime import in_virtual_time, settle

END = Problem(Busy("no place", retry_after=1))
CHUNKS = st.lists(st.tuples(st.sampled_from(Stream), st.binary(max_size=400)), max_size=60)


def logged(chunks: Iterable[tuple[Stream, bytes]], limit: int = 1_000_000) -> EventLog:
    log = EventLog(limit)
    for stream, chunk in chunks:
        log.write(stream, chunk)
    return log


def read(log: EventLog, after: int = 0) -> list[Event]:
    reader = log.since(after)
    return list(iter(reader.next, None))


def texts(events: Iterable[Event]) -> list[object]:
    return [event.fact.text if isinstance(event.fact, Output) else event.fact for event in events]


def test_events_are_numbered_from_one_and_the_last_one_closes() -> None:
    log = logged([(Stream.STDOUT, b"a"), (Stream.STDERR, b"b")])
    file = OutputFile("plot.png", b"x")
    log.close(END, [file])
    events = read(log)
    assert [event.id for event in events] == [1, 2, 3, 4]
    assert texts(events) == ["a", "b", FileLeft(file), END]
    assert read(log, 3) == events[3:]


def test_a_character_in_two_chunks_is_one_and_one_that_never_ends_is_replaced_at_the_end() -> None:
    log = logged(
        [(Stream.STDOUT, "é".encode()[:1]), (Stream.STDERR, b"x"), (Stream.STDOUT, "é".encode()[1:] + b"\xf0")]
    )
    assert texts(read(log)) == ["x", "é"]
    log.close(END)
    assert texts(read(log)) == ["x", "é", "\N{REPLACEMENT CHARACTER}", END]


def test_a_sandbox_that_takes_the_place_of_another_starts_nothing_anew() -> None:
    log, stamp = EventLog(100), datetime.now(UTC)
    log.start(Started("exe_1", stamp))
    log.start(Started("exe_1", stamp))
    assert len(read(log)) == 1


@given(chunks=CHUNKS, limit=st.integers(0, 8000), after=st.integers(0, 70))
def test_nothing_is_lost_without_a_gap_and_numbers_only_grow(
    chunks: list[tuple[Stream, bytes]], limit: int, after: int
) -> None:
    log = logged(chunks, limit)
    log.close(END)
    for stream in Stream:
        seen = 0
        for event in read(log):
            if isinstance(event.fact, Gap) and event.fact.stream is stream:
                seen += event.fact.size
            elif isinstance(event.fact, Output) and event.fact.stream is stream:
                assert seen <= event.fact.end
                seen = event.fact.end
        assert seen == sum(len(chunk) for of, chunk in chunks if of is stream)
    numbers = [event.id for event in read(log)]
    assert numbers == sorted(set(numbers))
    assert [event for event in read(log, after) if not isinstance(event.fact, Gap)] == [
        event for event in read(log) if event.id > after and not isinstance(event.fact, Gap)
    ]


@given(chunks=CHUNKS, limit=st.integers(0, 8000))
def test_what_is_kept_is_bounded(chunks: list[tuple[Stream, bytes]], limit: int) -> None:
    kept = [event.fact for event in read(logged(chunks, limit)) if isinstance(event.fact, Output)]
    assert sum(len(fact.text) for fact in kept) <= limit + 2 * 400


def test_many_small_events_are_bounded_in_number_too() -> None:
    log = EventLog(10**9)
    for _ in range(3 * _MOST_EVENTS):
        log.write(Stream.STDOUT, b"x")
    kept = [event.fact for event in read(log) if isinstance(event.fact, Output)]
    assert len(kept) in range(_MOST_EVENTS, _MOST_EVENTS + 2)


def test_a_thousand_small_lines_are_all_kept_for_a_reader_that_comes_late() -> None:
    log = EventLog(2 * 64 * 2**10)
    for number in range(1000):
        log.write(Stream.STDOUT, f"{number}\n".encode())
    assert "".join(event.fact.text for event in read(log, 500) if isinstance(event.fact, Output)).endswith("999\n")
    assert not any(isinstance(event.fact, Gap) for event in read(log))


def test_a_reader_that_begins_behind_what_is_kept_knows_that_its_gaps_are_not_exact() -> None:
    log = EventLog(100)
    for number in range(100):
        log.write(Stream.STDOUT, f"{number:09}\n".encode())
    assert (log.since().is_exact, log.since(30).is_exact, log.since(log.last_id).is_exact) == (True, False, True)


def test_a_reader_that_keeps_up_reads_all_and_one_that_is_late_reads_exact_gaps() -> None:
    async def main() -> None:
        log, quick, slow = EventLog(4000), [], []

        async def follow(into: list[Event], pause: float) -> None:
            async for event in log.since():
                into.append(event)
                await asyncio.sleep(pause)

        readers = [asyncio.ensure_future(follow(quick, 0)), asyncio.ensure_future(follow(slow, 10))]
        for number in range(100):
            log.write(Stream.STDOUT, f"{number:0100}".encode())
            await asyncio.sleep(1)
        log.close(END)
        await asyncio.gather(*readers)
        assert [event.id for event in quick] == list(range(1, 102))
        gaps = [event.fact.size for event in slow if isinstance(event.fact, Gap)]
        assert gaps
        assert sum(gaps) + 100 * sum(isinstance(event.fact, Output) for event in slow) == 10_000
        assert [event.id for event in slow] == sorted({event.id for event in slow})
        assert slow[-1].fact == END

    in_virtual_time(main)


def test_a_reader_that_leaves_is_forgotten() -> None:
    async def main() -> None:
        log = EventLog(4000)
        reader = asyncio.ensure_future(log.since().wait())
        await settle()
        reader.cancel()
        await settle()
        assert not log._waiting
        assert reader.cancelled()

    in_virtual_time(main)
