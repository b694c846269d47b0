"""A run's events on the wire: server-sent events, or a line of JSON for each (NDJSON)."""

import re
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from codex_server.api.exception_handlers import problem_details
from codex_server.api.protocol import half_close_callbacks
from codex_server.api.request_context import context_of
from codex_server.api.running import note_response
from codex_server.api.services import Services
from codex_server.execution.events import Event, Finished, Gap, Problem
from codex_server.execution.run import Run
from codex_server.model import Status, Stream
from codex_server.service.messages import Message, finished_message, progress_message
from codex_server.service.truncation import fitted_response

PING_SECONDS = 15.0
"""After so long without an event a stream says that it lives: proxies end what is silent."""
NDJSON_PING = '{"type":"ping"}\n'
NDJSON, EVENT_STREAM = "application/x-ndjson", "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Of every stream: nobody keeps it, and a proxy sends each piece on at once."""


def wants_lines(request: Request, other: str) -> bool:
    """Whether the client names NDJSON in ``Accept``, and does not prefer ``other`` by its quality value."""
    qualities: dict[str, float] = {}
    for each in request.headers.get("accept", "").split(","):
        media_type, _, parameters = each.partition(";")
        quality = re.search(r"(?:^|;)\s*q=(1(?:\.0{0,3})?|0(?:\.\d{0,3})?)\s*(?:;|$)", parameters, re.IGNORECASE)
        qualities[media_type.strip().lower()] = float(quality[1]) if quality else 1.0
    wanted = qualities.get(NDJSON, 0.0)
    return wanted > 0 and wanted >= qualities.get(other, 0.0)


class RunStream(StreamingResponse):
    """The events of ``run`` as they happen. Whoever stops reading slows nothing; whoever leaves cancels the run."""

    def __init__(self, request: Request, run: Run, services: Services) -> None:
        lines = wants_lines(request, EVENT_STREAM)
        media_type = NDJSON if lines else EVENT_STREAM
        super().__init__(self._lines() if lines else self._events(), media_type=media_type, headers=HEADERS)
        self._request, self._run, self._services = request, run, services
        self._gaps: set[Stream] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """INVARIANT: nothing of the run outlives the response.

        A client that sends no more gets a ping at once: the reply of one that has left is a reset.
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
            case Finished(outcome):
                settings, languages = self._services.settings, self._services.languages
                response = fitted_response(self._run.execution, outcome, languages, settings.max_response)
                note_response(self._request, response)
                return finished_message(event.id, response, self._gaps)
            case Problem(error):
                return Message(event.id, "problem", await problem_details(self._request, error))
            case progress:
                if isinstance(progress, Gap):
                    self._gaps.add(progress.stream)
                return progress_message(event.id, progress)
