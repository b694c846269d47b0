"""``service/messages.py``: events as clients read them."""

import json
from datetime import UTC, datetime

import pytest

from codex_server.execution.events import FileLeft, Gap, Output, Started
from codex_server.model import OutputFile, Stream
from codex_server.service.messages import Message, progress_message


@pytest.mark.parametrize(
    ("fact", "kind", "body"),
    [
        (
            Started("exe_1", datetime(2026, 1, 1, tzinfo=UTC)),
            "started",
            {"execution_id": "exe_1", "timestamp": "2026-01-01T00:00:00Z"},
        ),
        (Output(Stream.STDERR, "no", 2), "stderr", {"text": "no"}),
        (Gap(Stream.STDOUT, 9), "gap", {"stream": "stdout", "bytes": 9}),
    ],
)
def test_each_event_has_its_name_and_its_fields(fact, kind, body):
    assert progress_message(3, fact) == Message(3, kind, body)


def test_a_file_comes_as_in_a_response():
    message = progress_message(1, FileLeft(OutputFile("a.bin", b"\x00")))
    assert (message.type, message.body["path"], message.body["encoding"]) == ("file", "a.bin", "base64")


def test_a_line_break_in_a_text_breaks_neither_form():
    message = progress_message(1, Output(Stream.STDOUT, "a\n\nb", 4))
    event, line = message.as_event_stream(), message.as_ndjson()
    assert event.splitlines() == ["id: 1", "event: stdout", 'data: {"text":"a\\n\\nb"}', ""]
    assert line.count("\n") == 1
    assert json.loads(line) == {"id": 1, "type": "stdout", "text": "a\n\nb"}


def test_the_type_of_a_problem_gives_way_to_the_name_of_the_event():
    assert json.loads(Message(2, "problem", {"type": "/problems#busy", "code": "busy"}).as_ndjson()) == {
        "id": 2,
        "type": "problem",
        "code": "busy",
    }
