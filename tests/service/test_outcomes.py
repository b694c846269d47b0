"""``service/outcomes.py``: which part of a kept outcome a poll gets."""

from datetime import UTC, datetime

from codex_server.execution.events import EventLog
from codex_server.limits import Limits
from codex_server.model import Captured, Ending, Outcome, Stream
from codex_server.service.outcomes import KeptOutcome, read_pieces
from codex_server.service.response import build_response

WHOLE = "a\n[... 12 bytes left out ...]\nz"


def kept_of(log: EventLog) -> KeptOutcome:
    ending = Ending(
        exit_code=0,
        signal=None,
        started_at=datetime(2026, 11, 28, tzinfo=UTC),
        wall_seconds=1,
        cpu_seconds=1,
        peak_memory_bytes=1,
    )
    stdout, stderr = Captured(WHOLE, truncated=True, total_bytes=14), Captured("", truncated=False, total_bytes=0)
    outcome = Outcome("exe_1", ending, stdout, stderr, queue_seconds=0, limits=Limits())
    pieces, last = read_pieces(log.since())
    response = build_response(outcome, None)
    return KeptOutcome(status=outcome.status.value, response=response, pieces=tuple(pieces), last=last)


def test_a_poll_is_truncated_where_a_gap_is_behind_its_cursor_and_only_there():
    log = EventLog(limit_bytes=2)
    for character in b"abcdefgz":
        log.write(Stream.STDOUT, bytes([character]))
    kept = kept_of(log)
    found = [kept.since(cursor, 10_000) for cursor in (0, 1, kept.last - 1)]
    assert [(each.stdout, each.truncated.stdout) for each in found] == [
        (WHOLE, True),
        ("\n[... 6 bytes left out ...]\nz", True),
        ("z", False),
    ]
    assert not any(each.truncated.stderr for each in found)
