"""A run's events as clients get them: each a name and a JSON object, whatever carries them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from codex_server.execution.events import FileLeft, Gap, Output, Started
from codex_server.model import Stream
from codex_server.service.response import response_file
from codex_server.service.schemas import ExecuteResponse

_SENT_BEFORE = {"stdout", "stderr", "output"}


@dataclass(frozen=True, slots=True)
class Message:
    """An event as clients know it."""

    id: int
    type: str
    body: Mapping[str, Any]

    def as_event_stream(self) -> str:
        """A server-sent event."""
        return f"id: {self.id}\nevent: {self.type}\ndata: {_json(self.body)}\n\n"

    def as_ndjson(self) -> str:
        """A line of JSON. Its ``type`` names the event: a problem's own is left out, its ``code`` says the same."""
        body = {name: value for name, value in self.body.items() if name != "type"}
        return _json({"id": self.id, "type": self.type, **body}) + "\n"


def progress_message(number: int, fact: Started | Output | Gap | FileLeft) -> Message:
    """What happened before the end, as event ``number``."""
    match fact:
        case Started(execution_id, timestamp):
            stamp = timestamp.isoformat().replace("+00:00", "Z")
            return Message(number, "started", {"execution_id": execution_id, "timestamp": stamp})
        case Output(stream, text):
            return Message(number, stream.value, {"text": text})
        case Gap(stream, size):
            return Message(number, "gap", {"stream": stream.value, "bytes": size})
        case FileLeft(file):
            return Message(number, "file", response_file(file).model_dump(mode="json"))


def finished_message(number: int, response: ExecuteResponse, gaps: Collection[Stream]) -> Message:
    """The end, without the streams: they were sent before, whole but for those that had ``gaps``."""
    body = response.model_dump(mode="json", exclude=_SENT_BEFORE)
    truncated = body["truncated"] | {stream.value: stream in gaps for stream in Stream}
    return Message(number, "finished", body | {"truncated": truncated})


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
