"""A run's events on the wire: server-sent events, or a line of JSON for each (NDJSON)."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from codex_server.api.exception_handlers import problem_details
from codex_server.api.protocol import half_close_callbacks
from codex_server.api.request_context import context_of
from codex_server.api.response import answer_file
from codex_server.api.running import note_outcome
from codex_server.api.services import Services
from codex_server.api.truncation import fitted_answer
from codex_server.execution.events import Event, FileLeft, Finished, Gap, Output, Started
from codex_server.execution.run import Run
from codex_server.model import Status

PING_SECONDS = 15.0
"""After so long without an event a stream says that it lives: proxies end what is silent."""
NDJSON_PING = '{"type":"ping"}\n'
NDJSON, EVENT_STREAM = "application/x-ndjson", "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Of every stream: nobody keeps it, and a proxy sends each piece on at once."""
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


class RunStream(StreamingResponse):
    """The events of ``run`` as they happen. Whoever stops reading slows nothing; whoever leaves cancels the run."""

    def __init__(self, request: Request, run: Run, services: Services) -> None:
        lines = NDJSON in request.headers.get("accept", "")
        media_type = NDJSON if lines else EVENT_STREAM
        super().__init__(self._lines() if lines else self._events(), media_type=media_type, headers=HEADERS)
        self._request, self._run, self._services = request, run, services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """INVARIANT: nothing of the run outlives the response.

        A client that sends no more gets a ping at once: one that has left answers it with a reset.
        """
        half_close_callbacks(scope).append(self._run.wake_readers)
        try:
            await super().__call__(scope, receive, send)
        finally:
            if not self._run.ended:
                context_of(self._request).log_fields["outcome"] = Status.CANCELLED.value
            await self._run.abandon()

    async def _events(self) -> AsyncIterator[str]:
        async for message in self._messages():
            yield message.as_event_stream() if message else ": ping\n\n"

    async def _lines(self) -> AsyncIterator[str]:
        async for message in self._messages():
            yield message.as_ndjson() if message else NDJSON_PING

    async def _messages(self) -> AsyncIterator[Message | None]:
        """Each event; None after a silence."""
        events = self._run.events()
        while not events.ended:
            while event := events.next():
                yield await self._message(event)
            if not await events.wait(PING_SECONDS) and not events.ended:
                yield None

    async def _message(self, event: Event) -> Message:
        match event.fact:
            case Started(execution_id, timestamp):
                stamp = timestamp.isoformat().replace("+00:00", "Z")
                return Message(event.id, "started", {"execution_id": execution_id, "timestamp": stamp})
            case Output(stream, text):
                return Message(event.id, stream.value, {"text": text})
            case Gap(stream, size):
                return Message(event.id, "gap", {"stream": stream.value, "bytes": size})
            case FileLeft(file):
                return Message(event.id, "file", answer_file(file).model_dump(mode="json"))
            case Finished(outcome):
                note_outcome(self._request, outcome)
                answer = fitted_answer(
                    self._run.execution, outcome, self._services.languages, self._services.settings.max_response
                )
                return Message(event.id, "finished", answer.model_dump(mode="json", exclude=_SENT_BEFORE))
            case _ as problem:
                return Message(event.id, "problem", await problem_details(self._request, problem.error))


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
