"""The numbered events of an execution, kept in bounded memory for any number of readers."""

import asyncio
import codecs
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime

from codex_server.model import Outcome, OutputFile, Stream

_MOST_EVENTS = 10_000
"""Of output: one costs some 200 bytes beside its text, so that many small ones must be bounded too."""


@dataclass(frozen=True, slots=True)
class Started:
    """The program was handed to a sandbox."""

    execution_id: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class Output:
    """Text that the program wrote; ``end`` is the offset in bytes where it ends in its stream."""

    stream: Stream
    text: str
    end: int


@dataclass(frozen=True, slots=True)
class Gap:
    """``size`` bytes of output that are no longer kept: the reader was slower than the program."""

    stream: Stream
    size: int


@dataclass(frozen=True, slots=True)
class FileLeft:
    """A file that the program left."""

    file: OutputFile


@dataclass(frozen=True, slots=True)
class Finished:
    """The execution has an outcome. The last event is this or ``Problem``."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Problem:
    """The execution has no outcome; ``error`` is why. The last event is this or ``Finished``."""

    error: Exception


Fact = Started | Output | Gap | FileLeft | Finished | Problem


@dataclass(frozen=True, slots=True)
class Event:
    """A fact and its number; the first has number 1."""

    id: int
    fact: Fact


class EventLog:
    """The events of one execution.

    It keeps ``limit_bytes`` of the output in at most ``_MOST_EVENTS`` events, half from the head and half from the tail
    (each may exceed its half by one chunk); a ``Gap`` stands for what was between. A slow reader never slows the
    program: it reads what is still kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.head: list[Event] = []
        self.tail: deque[Event] = deque()
        self._head_left = self._tail_left = limit_bytes // 2
        self._head_events = self._tail_events = _MOST_EVENTS // 2
        self.last_id = self.dropped_id = 0
        self._decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in Stream}
        self._ends = dict.fromkeys(Stream, 0)
        self.dropped_ends = dict.fromkeys(Stream, 0)
        self.closed = False
        self._waiting: set[asyncio.Future[None]] = set()

    def write(self, stream: Stream, chunk: bytes) -> None:
        """Add output. An incomplete character at the end waits for the next chunk."""
        self._ends[stream] += len(chunk)
        if text := self._decoders[stream].decode(chunk):
            self._add_output(stream, text)

    def start(self, fact: Started) -> None:
        """Add the first event, only once: a second sandbox may replace one lost before the program began."""
        if not self.last_id:
            self._append(fact, self.head)

    def close(self, fact: Finished | Problem, files: Iterable[OutputFile] = ()) -> None:
        """Add the last event, after the streams' remaining text and the ``files``."""
        for stream, decoder in self._decoders.items():
            if text := decoder.decode(b"", final=True):
                self._add_output(stream, text)
        for file in files:
            self._append(FileLeft(file), self.tail)
        self.closed = True
        self._append(fact, self.tail)

    def since(self, after: int = 0) -> "EventReader":
        """Return a reader of the events with a number above ``after``."""
        return EventReader(self, after)

    def _add_output(self, stream: Stream, text: str) -> None:
        fact = Output(stream, text, self._ends[stream])
        if not self.tail and self._head_left > 0 and self._head_events > 0:
            self._head_left -= len(text)
            self._head_events -= 1
            self._append(fact, self.head)
            return
        self._tail_left -= len(text)
        self._tail_events -= 1
        self._append(fact, self.tail)
        while min(self._tail_left, self._tail_events) < 0 and len(self.tail) > 1:
            dropped = self.tail.popleft()
            if isinstance(dropped.fact, Output):
                self._tail_left += len(dropped.fact.text)
                self._tail_events += 1
                self.dropped_ends[dropped.fact.stream] = dropped.fact.end
            self.dropped_id = dropped.id

    def _append(self, fact: Fact, where: list[Event] | deque[Event]) -> None:
        self.last_id += 1
        where.append(Event(self.last_id, fact))
        self.wake()

    def wake(self) -> None:
        """Wake every waiting reader."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def change(self, seconds: float | None = None) -> None:
        """Return when an event was added, at ``wake``, or after ``seconds``."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await asyncio.wait([waiting], timeout=seconds)
        finally:
            self._waiting.remove(waiting)


class EventReader:
    """Reads a log at its own pace, to its end.

    A gap has the number of an event that it replaces. Its size is exact, unless reading began after an event that was
    no longer kept: then it includes the output before that event.
    """

    def __init__(self, log: EventLog, after: int) -> None:
        self._log = log
        self._after = after
        self._ends = dict.fromkeys(Stream, 0)
        for event in (*log.head, *log.tail):
            if event.id <= after:
                self._note(event)
        self._after = after
        self._exact = after <= len(log.head) or after >= log.dropped_id

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while event := self.next():
                yield event
            if self.ended:
                return
            await self.wait()

    def next(self) -> Event | None:
        """Return the next event, or None when there is none yet."""
        event = self._find()
        if event:
            self._note(event)
        return event

    @property
    def is_exact(self) -> bool:
        """Whether the sizes of its gaps are: not where it begins behind an event that is no longer kept."""
        return self._exact

    @property
    def cursor(self) -> int:
        """The number of the last event that was read."""
        return self._after

    @property
    def ended(self) -> bool:
        """Whether the last event has been read."""
        return self._log.closed and self._after >= self._log.last_id

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for more events, at most ``seconds`` or until ``EventLog.wake``; return whether there are any."""
        if self.ended:
            return False
        if self._after >= self._log.last_id:
            await self._log.change(seconds)
        return self._after < self._log.last_id

    def _find(self) -> Event | None:
        log = self._log
        if self._after < len(log.head):
            return log.head[self._after]
        lost = {stream: end - self._ends[stream] for stream, end in log.dropped_ends.items()}
        lost = {stream: size for stream, size in lost.items() if size > 0}
        if self._after < log.dropped_id and lost:
            stream, size = next(iter(lost.items()))
            return Event(log.dropped_id - len(lost) + 1, Gap(stream, size))
        place = max(0, self._after - max(log.dropped_id, len(log.head)))
        return log.tail[place] if place < len(log.tail) else None

    def _note(self, event: Event) -> None:
        self._after = event.id
        if isinstance(event.fact, Output):
            self._ends[event.fact.stream] = event.fact.end
        elif isinstance(event.fact, Gap):
            self._ends[event.fact.stream] += event.fact.size
