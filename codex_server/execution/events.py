"""What happens in an execution, as numbered events: kept in bounded memory, read by anyone who follows it."""

import asyncio
import codecs
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime

from codex_server.model import Outcome, OutputFile, Stream

_EVENT_BYTES = 200
"""What an event costs beside its text, so that many small ones are bounded too."""


@dataclass(frozen=True, slots=True)
class Started:
    """The program was handed to a sandbox."""

    execution_id: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class Output:
    """Text that the program wrote; ``end`` counts the bytes of its stream up to here."""

    stream: Stream
    text: str
    end: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Output of ``size`` bytes that is no longer kept: the reader was slower than the program."""

    stream: Stream
    size: int


@dataclass(frozen=True, slots=True)
class FileLeft:
    """A file that the program left."""

    file: OutputFile


@dataclass(frozen=True, slots=True)
class Finished:
    """The execution has its outcome: the last event, unless ``Problem`` is."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Problem:
    """The execution has no outcome, for this reason: the last event, unless ``Finished`` is."""

    error: BaseException


Fact = Started | Output | Gap | FileLeft | Finished | Problem


@dataclass(frozen=True, slots=True)
class Event:
    """A fact and its number; the first has number 1."""

    id: int
    fact: Fact


class EventLog:
    """The events of one execution.

    Of its output the first half of ``limit_bytes`` is kept, and the last half (each with one chunk more at most); what
    was between is reported as a ``Gap``. A reader never slows the program: whoever comes late reads what is kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._head: list[Event] = []
        self._tail: deque[Event] = deque()
        self._head_room = self._tail_room = limit_bytes // 2
        self._last_id = self._dropped_id = 0
        self._decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in Stream}
        self._ends = dict.fromkeys(Stream, 0)
        self._dropped_ends = dict.fromkeys(Stream, 0)
        self._closed = False
        self._readers: set[asyncio.Future[None]] = set()

    def write(self, stream: Stream, chunk: bytes) -> None:
        """Add output. A character whose bytes are not all there waits for the next chunk."""
        self._ends[stream] += len(chunk)
        if text := self._decoders[stream].decode(chunk):
            self._add_output(stream, text)

    def start(self, fact: Started) -> None:
        """Add the first event, once: another sandbox may take the place of one that was lost before it began."""
        if not self._last_id:
            self._append(fact, self._head)

    def close(self, fact: Finished | Problem, files: Iterable[OutputFile] = ()) -> None:
        """Add the last event, after what the streams still hold and the ``files``."""
        for stream, decoder in self._decoders.items():
            if text := decoder.decode(b"", final=True):
                self._add_output(stream, text)
        for file in files:
            self._append(FileLeft(file), self._tail)
        self._closed = True
        self._append(fact, self._tail)

    def since(self, after: int = 0) -> list[Event]:
        """The events with a number above ``after`` that there are by now.

        A gap has the number of an event that it stands for. Its size is exact, unless ``after`` is the number of an
        event that is no longer kept: then it counts what was read of it too.
        """
        reader, events = _Reader(after, self._ends_at(after)), []
        while event := self._next(reader):
            events.append(event)
        return events

    async def follow(self, after: int = 0) -> AsyncIterator[Event]:
        """The same and those to come, until the last one."""
        reader = _Reader(after, self._ends_at(after))
        while True:
            if event := self._next(reader):
                yield event
            elif self._closed:
                return
            else:
                await self._news()

    def _next(self, reader: "_Reader") -> Event | None:
        """What the reader reads next, noted as read."""
        if reader.after < len(self._head):
            return reader.read(self._head[reader.after])
        if reader.after < self._dropped_id:
            lost = {stream: end - reader.ends[stream] for stream, end in self._dropped_ends.items()}
            lost = {stream: size for stream, size in lost.items() if size > 0}
            for stream, size in lost.items():
                reader.ends[stream] += size
                return reader.read(Event(self._dropped_id - len(lost) + 1, Gap(stream, size)))
        first = max(self._dropped_id, len(self._head)) + 1
        place = max(0, reader.after + 1 - first)
        return reader.read(self._tail[place]) if place < len(self._tail) else None

    def _ends_at(self, after: int) -> dict[Stream, int]:
        """How much of each stream had come with event ``after``, as far as it is kept."""
        ends = dict.fromkeys(Stream, 0)
        for event in (*self._head, *self._tail):
            if event.id <= after and isinstance(event.fact, Output):
                ends[event.fact.stream] = event.fact.end
        return ends

    def _add_output(self, stream: Stream, text: str) -> None:
        fact = Output(stream, text, self._ends[stream])
        if not self._tail and self._head_room > 0:
            self._head_room -= _cost(fact)
            self._append(fact, self._head)
            return
        self._tail_room -= _cost(fact)
        self._append(fact, self._tail)
        while self._tail_room < 0 and len(self._tail) > 1:
            dropped = self._tail.popleft()
            if isinstance(dropped.fact, Output):
                self._tail_room += _cost(dropped.fact)
                self._dropped_ends[dropped.fact.stream] = dropped.fact.end
            self._dropped_id = dropped.id

    def _append(self, fact: Fact, where: list[Event] | deque[Event]) -> None:
        self._last_id += 1
        where.append(Event(self._last_id, fact))
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)

    async def _news(self) -> None:
        reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.add(reader)
        try:
            await reader
        finally:
            self._readers.remove(reader)


@dataclass(slots=True)
class _Reader:
    """The number of the last event that was read, and how much of each stream with it."""

    after: int
    ends: dict[Stream, int]

    def read(self, event: Event) -> Event:
        """Note that ``event`` is read."""
        self.after = event.id
        if isinstance(event.fact, Output):
            self.ends[event.fact.stream] = event.fact.end
        return event


def _cost(fact: Output) -> int:
    return _EVENT_BYTES + len(fact.text)
