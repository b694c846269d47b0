"""The outermost edge: a request id on every response, one log line and one measurement for each, no fault uncaught."""

import logging
import time

import structlog
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codex_server.api.exception_handlers import internal_problem
from codex_server.api.request_context import RequestContext, open_context
from codex_server.observe.metrics import Metrics

_log = logging.getLogger("codex_server.http")
_SAFETY = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class RequestMiddleware:
    """Wraps every route. Responds to ``HEAD`` as to ``GET``, without the body."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass a lifespan or a WebSocket on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        method, context = scope["method"], open_context(scope)
        response = _Sending(send, context, scope["app"], bodiless=method == "HEAD")
        if "expect" in Headers(scope=scope):
            receive = response.body_invited_by(receive)
        if method == "HEAD":
            scope = {**scope, "method": "GET"}  # a copy: the server looks at its own to know that no body follows
        with structlog.contextvars.bound_contextvars(request_id=context.request_id):
            try:
                await self._serve(scope, receive, response)
            finally:
                self._note(scope, method, context, response.status, time.perf_counter() - began)

    async def _serve(self, scope: Scope, receive: Receive, response: "_Sending") -> None:
        try:
            await self._app(scope, receive, response)
        except Exception:
            _log.exception("a route failed")
            if response.status is not None:
                raise  # half a response went out: only closing the connection shows the client
            await internal_problem(Request(scope))(scope, receive, response)

    def _note(self, scope: Scope, method: str, context: RequestContext, status: int | None, seconds: float) -> None:
        route = scope.get("route")
        template = route.path if isinstance(route, APIRoute) else "unmatched"
        self._metrics.answered(template, method, status or 0, seconds)
        facts = {
            "method": method,
            "route": template,
            "status": status,
            "seconds": round(seconds, 6),
            "caller": context.caller,
            **context.log_fields,
        }
        _log.info("request", extra=facts)


class _Sending:
    """``send`` with the context's headers added."""

    def __init__(self, send: Send, context: RequestContext, app: Starlette, *, bodiless: bool) -> None:
        self._send, self._context, self._app, self._bodiless = send, context, app, bodiless
        self.status: int | None = None
        self._withheld = False

    def body_invited_by(self, receive: Receive) -> Receive:
        """``receive`` of a client that sends the body when it is invited to (``Expect: 100-continue``).

        One that got its response without this may send it or not: only closing the connection settles what comes next.
        """
        self._withheld = True

        async def ask() -> Message:
            self._withheld = False
            return await receive()

        return ask

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in {**_SAFETY, **self._context.headers}.items():
                headers.setdefault(name, value)
            headers["X-Request-ID"] = self._context.request_id
            # While draining: it stops listening soon, and on a kept connection the next request would be lost.
            if self._withheld or hasattr(self._app.state, "draining"):
                headers["Connection"] = "close"
        elif self._bodiless and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)
