"""Who calls, and whether they may: the dependencies that guard a route.

They are coroutines although they wait for nothing: FastAPI hands a plain function to a thread, which costs more than
the function, and the stores behind these belong to the event loop's thread. None depends on another: FastAPI resolves
the dependencies of each one again, also of those whose result it has, and that costs more than what they do.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from slowapi.util import get_remote_address

from codex_server.access.ratelimit import Allowance, Window
from codex_server.access.tokens import Scope, Verifier
from codex_server.api.request_context import context_of
from codex_server.api.services import Services, services_of
from codex_server.errors import Forbidden, Unauthenticated
from codex_server.model import Caller
from codex_server.service.callers import anonymous_caller, caller_by_token
from codex_server.service.quota import DAY_SECONDS, Standing
from codex_server.service.rate import rate_refusal
from codex_server.tokentext import bare_token, decode_field, is_bearer

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def caller_with(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, whose token must have ``scope``."""

    async def find(request: Request) -> Caller:
        return _caller(request, services_of(request), scope)

    return find


def _caller(request: Request, services: Services, scope: Scope) -> Caller:
    verifier = services.verifier
    caller = _anonymous(request, services) if verifier is None else _by_token(request, verifier, scope)
    context_of(request).caller = caller.name
    return caller


ExecutingCaller = Annotated[Caller, Depends(caller_with(Scope.EXECUTE))]
MetricsCaller = Annotated[Caller, Depends(caller_with(Scope.METRICS))]


async def any_caller(request: Request) -> Caller:
    """A dependency of the routes that ask for no token."""
    return anonymous_caller(get_remote_address(request))


AnyCaller = Annotated[Caller, Depends(any_caller)]


async def within_rate(request: Request) -> Caller:
    """A dependency: the caller, who may execute, with the request counted against its policy.

    Raises ``RateLimited``. The count is put on the response; the fields follow
    draft-ietf-httpapi-ratelimit-headers-11.
    """
    services = services_of(request)
    caller = _caller(request, services, Scope.EXECUTE)
    count_against_rate(request, caller, services)
    return caller


CountedCaller = Annotated[Caller, Depends(within_rate)]


def count_against_rate(request: Request, caller: Caller, services: Services, cost: int = 1) -> None:
    """Count ``cost`` executions. Raises ``RateLimited``, and then none is counted."""
    allowance = services.rate_limit.take(caller.key, cost)
    context_of(request).headers.update(rate_headers(allowance))
    if refusal := rate_refusal(allowance, cost):
        raise refusal


def rate_headers(allowance: Allowance) -> dict[str, str]:
    """The two header fields that report where a caller stands; none where there is no policy."""
    if not allowance.windows:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{w.name}";q={w.quota};w={w.seconds}' for w in allowance.windows),
        "RateLimit": ", ".join(_standing(window) for window in allowance.windows),
    }


def _standing(window: Window) -> str:
    return f'"{window.name}";r={window.remaining};t={window.reset}'


def quota_headers(standing: Standing) -> dict[str, str]:
    """The same of a day's quotas."""
    measures = [(measure.name.replace("_", "-"), measure) for measure in standing.measures]
    return {
        "Quota-Policy": ", ".join(f'"{name}";q={int(measure.quota)};w={DAY_SECONDS}' for name, measure in measures),
        "Quota": ", ".join(f'"{name}";r={measure.remaining};t={standing.reset}' for name, measure in measures),
    }


def _by_token(request: Request, verifier: Verifier, scope: Scope) -> Caller:
    presented = _presented(request)
    if presented is None:
        raise Unauthenticated(_missing(request.headers.get("authorization", "")))
    return caller_by_token(verifier, presented, scope)


def _missing(authorization: str) -> str:
    """Why there is no token in a header with this ``Authorization``; nothing of it is repeated."""
    if authorization.strip() and not is_bearer(authorization):
        return (
            "the Authorization field does not begin with `Bearer `; send `Authorization: Bearer codex_...`, "
            "or the token alone in `X-API-Key`"
        )
    return "there is no token; send `Authorization: Bearer codex_...` with a token of this server"


def _presented(request: Request) -> str | None:
    """The token in the header; one in the address is never read, for addresses end in logs and histories."""
    sent = decode_field(request.headers.get("authorization", ""))
    if is_bearer(sent) and (token := bare_token(sent)):
        return token
    return bare_token(decode_field(request.headers.get("x-api-key", ""))) or None


def _anonymous(request: Request, services: Services) -> Caller:
    """The caller of a server without tokens: distinguished by address.

    INVARIANT: a page in somebody's browser must not run code here. Browsers send ``Origin`` with each POST, and a
    page that reached this server through a rebound name still sends its own origin.
    """
    origin = request.headers.get("origin")
    if origin and not _is_own(origin, services.settings.public_url):
        raise Forbidden("this server runs without tokens and takes no calls from pages of other origins; use tokens")
    return anonymous_caller(get_remote_address(request))


def _is_own(origin: str, public_url: str | None) -> bool:
    if public_url and origin == "{0.scheme}://{0.netloc}".format(urlsplit(public_url)):
        return True
    try:
        return urlsplit(origin).hostname in _LOOPBACK
    except ValueError:
        return False
