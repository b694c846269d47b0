"""Outcomes that are kept after their call: bounded in time and in size, and durable."""

from collections.abc import Callable, Iterable

from pydantic import BaseModel, ConfigDict

from codex_server.execution.capture import mark
from codex_server.execution.events import EventReader, Gap, Output
from codex_server.model import Stream
from codex_server.service.schemas import ExecuteResponse, LinkedFile
from codex_server.service.session_schemas import SessionExecuteResponse
from codex_server.service.truncation import fit
from codex_server.store.base import Store, since_epoch

TABLE = "outcomes"
_MOST_ROWS = 100_000
_UNCOUNTED = "\n[... output left out ...]\n"
"""Where a cursor is older than what is kept: how much is missing since then is not known any more."""


class Piece(BaseModel):
    """Output of a program: the number of the event that brought it, its stream and its text.

    In place of what is no longer kept there is a ``gap``, whose text says how much that is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: int
    stream: Stream
    text: str
    gap: bool = False


class KeptProblem(BaseModel):
    """Why an execution has no outcome."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slug: str
    detail: str


class KeptOutcome(BaseModel):
    """The whole response of an execution with its output in pieces, or why there is none.

    ``reason`` and ``hint`` are the parts of ``error`` around standard error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: str
    response: SessionExecuteResponse | ExecuteResponse | None = None
    reason: str | None = None
    hint: str | None = None
    problem: KeptProblem | None = None
    pieces: tuple[Piece, ...] = ()
    last: int = 0
    links: tuple[LinkedFile | None, ...] = ()

    def since(self, cursor: int, max_chars: int) -> ExecuteResponse | None:
        """The response with only the output after ``cursor``, at most ``max_chars`` of JSON.

        ``truncated`` speaks of this output: what came before was in the responses before.
        """
        if self.response is None:
            return None
        whole = self.response
        if cursor:
            pieces = [piece for piece in self.pieces if piece.id > cursor]
            gaps = {piece.stream for piece in pieces if piece.gap}
            missing = {"stdout": Stream.STDOUT in gaps, "stderr": Stream.STDERR in gaps}
            truncated = whole.truncated.model_copy(update=missing)
            texts = texts_of(pieces)
            streams = {"stdout": texts[Stream.STDOUT], "stderr": texts[Stream.STDERR], "truncated": truncated}
            whole = whole.model_copy(update=streams)
        return fit(whole, self.reason, max_chars, self.hint, links=self.links)


class Outcomes:
    """Keeps outcomes for ``seconds``, at most ``max_bytes`` of them in all: the oldest give way."""

    def __init__(
        self, store: Store, *, seconds: float, max_bytes: int, clock: Callable[[], float] = since_epoch
    ) -> None:
        self.seconds = seconds
        """How long an outcome is kept."""
        self._store, self._max_bytes, self._clock = store, max_bytes, clock

    async def put(self, execution_id: str, owner: str, outcome: KeptOutcome) -> None:
        """Keep it; durable when this returns."""
        expires_at = self._clock() + self.seconds
        value = outcome.model_dump_json().encode()
        await self._store.put(TABLE, execution_id, value, owner=owner, expires_at=expires_at)
        await self._store.trim(TABLE, max_rows=_MOST_ROWS, max_bytes=self._max_bytes)

    async def find(self, execution_id: str, owner: str) -> KeptOutcome | None:
        """What is kept of that execution, if ``owner`` submitted it."""
        record = await self._store.get(TABLE, execution_id)
        return KeptOutcome.model_validate_json(record.value) if record and record.owner == owner else None


def texts_of(pieces: Iterable[Piece]) -> dict[Stream, str]:
    """The text of each stream."""
    found: dict[Stream, list[str]] = {stream: [] for stream in Stream}
    for piece in pieces:
        found[piece.stream].append(piece.text)
    return {stream: "".join(texts) for stream, texts in found.items()}


def read_pieces(reader: EventReader, max_chars: int | None = None) -> tuple[list[Piece], int]:
    """The output that waits in ``reader``, at least one piece and about ``max_chars``, and the cursor behind it."""
    pieces: list[Piece] = []
    length, cursor = 0, reader.cursor
    while (max_chars is None or length < max_chars) and (event := reader.next()):
        cursor = event.id
        match event.fact:
            case Output(stream, text):
                pieces.append(Piece(id=event.id, stream=stream, text=text))
            case Gap(stream, size):
                text = mark(size) if reader.is_exact else _UNCOUNTED
                pieces.append(Piece(id=event.id, stream=stream, text=text, gap=True))
            case _:
                continue
        length += len(pieces[-1].text)
    return pieces, cursor
