"""One request with its response, as the edges see it: id, caller, headers that every response gets."""

import re
import secrets
from dataclasses import dataclass, field
from typing import cast

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

_KEY = "codex_server.context"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class RequestContext:
    """What is learnt of a request on its way; ``headers`` are put on the response, be it a result or a problem."""

    request_id: str
    caller: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    log_fields: dict[str, object] = field(default_factory=dict)
    """For the log: lengths, hashes, ids; never code or output."""
    problem_facts: dict[str, object] = field(default_factory=dict)
    """Further members of the problem, should there be one: what was done before it."""


def open_context(scope: Scope) -> RequestContext:
    """A new context in ``scope``; it takes the caller's ``X-Request-ID`` when that is well-formed."""
    wanted = Headers(scope=scope).get("x-request-id", "")
    request_id = wanted if _REQUEST_ID.fullmatch(wanted) else secrets.token_hex(16)
    context = scope[_KEY] = RequestContext(request_id)
    return context


def context_of(connection: HTTPConnection) -> RequestContext:
    """The context that the middleware opened."""
    return cast("RequestContext", connection.scope[_KEY])
