"""Refusals on the wire: RFC 9457 problems. The one table from our errors to HTTP numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import JSONResponse

from codex_server import errors, file_errors
from codex_server.api.problem_guides import GUIDES
from codex_server.service.fields import FieldError

MEDIA_TYPE = "application/problem+json"
PAGE = "/problems"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: a heading in ``docs/problems.md`` and on ``GET /problems``."""

    slug: str
    status: int
    title: str
    meaning: str
    remedy: str


STATUS_OF: Mapping[type[errors.CodexError], int] = {
    # 400 for code and language, as the first contract documents it; 422 for everything else in the body.
    errors.InvalidCode: 400,
    errors.UnknownLanguage: 400,
    errors.InvalidRequest: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.IdempotencyInFlight: 409,
    errors.IdempotencyLost: 409,
    errors.NoPublicAddress: 404,
    errors.UnknownExecution: 404,
    errors.OutcomeGone: 410,
    errors.UnknownSession: 404,
    errors.SessionEnded: 410,
    errors.SessionBusy: 409,
    errors.UnknownShell: 404,
    errors.UnknownCheckpoint: 404,
    errors.UnknownWorkspace: 404,
    file_errors.FileRefused: 422,
    file_errors.UnknownPath: 404,
    file_errors.FileConflict: 409,
    file_errors.FileChanged: 412,
    file_errors.EditRefused: 422,
    errors.UnknownArtifact: 404,
    errors.ArtifactGone: 410,
    errors.UnknownFile: 404,
    errors.StorageFull: 507,
    errors.InputRefused: 409,
    errors.Cancelled: 409,
    errors.ExecutionLost: 500,
    errors.TooLarge: 413,
    errors.NotRun: 424,
    errors.RateLimited: 429,
    errors.QuotaExceeded: 429,
    errors.Unavailable: 503,
    errors.SandboxFault: 500,
}
"""HTTP number by class; a class that is not here has its base's. ``StartupError`` never reaches a client."""

_HTTP_KINDS = (
    Kind(
        "malformed-request",
        400,
        "The request cannot be read",
        "The body is not JSON, or the request breaks HTTP's rules.",
        "Send one JSON object in UTF-8. The detail names the place.",
    ),
    Kind("not-found", 404, "There is nothing here", "No route has this path.", "`GET /` lists the routes."),
    Kind(
        "method-not-allowed",
        405,
        "The method is not allowed here",
        "The path exists, but not for this method.",
        "`Allow` names the methods that it takes.",
    ),
    Kind(
        "request-timeout",
        408,
        "The request took too long to arrive",
        "The body did not arrive within the server's time (`CODEX_RECEIVE_SECONDS`).",
        "Send the whole body at once.",
    ),
    Kind(
        "unsupported-media-type",
        415,
        "The body's type is not supported",
        "The `Content-Type` is not JSON, or the body is compressed.",
        "Send `Content-Type: application/json` and no `Content-Encoding`.",
    ),
    Kind(
        "range-not-satisfiable",
        416,
        "Nothing of that range is there",
        "`Range` asks for bytes behind the end of the file.",
        "`Content-Range` has the file's size: ask for a range within it, or leave `Range` out.",
    ),
    Kind(
        "header-too-large",
        431,
        "The request's header is too large",
        "The request line and header fields together are above the server's cap.",
        "Send fewer or shorter header fields.",
    ),
    Kind(
        "internal",
        500,
        "The server failed",
        "A fault of the server itself. The response shows nothing of its insides.",
        "Report the `instance` to whoever runs the server: the log has the cause under that id.",
    ),
    Kind(
        "not-implemented",
        501,
        "The server cannot do what the request asks",
        "The body comes with a `Transfer-Encoding` other than `chunked`, or the request is for a proxy (`CONNECT`).",
        "Send the body as it is, with `Content-Length` or `chunked`.",
    ),
    Kind(
        "http-version-not-supported",
        505,
        "The version of HTTP is not supported",
        "The request is not HTTP/1.1 or HTTP/1.0. An offer to change to HTTP/2 (`Upgrade: h2c`) is ignored.",
        "Send an HTTP/1.1 request; a reverse proxy before the server can speak HTTP/2 with clients.",
    ),
)

_HIDDEN: Mapping[type[errors.CodexError], str] = {
    errors.SandboxFault: "the sandbox was lost after the program may have begun, so it is not run again; "
    "repeat the request if running the program twice does no harm",
    errors.SandboxUnavailable: "no sandbox could be made, and nothing of the program has begun; repeat the request "
    "in a moment, and if it persists ask whoever runs this server for the log under this request's id",
}
"""What a client gets in place of an error's own words, which may show the server's insides."""


def client_errors(root: type[errors.CodexError] = errors.CodexError) -> list[type[errors.CodexError]]:
    """Every class below ``root`` that may reach a client."""
    found: list[type[errors.CodexError]] = []
    for kind in root.__subclasses__():
        # An edge may refine an error (and keep its slug); the project's own errors are those in these two modules.
        if kind.__module__ in (errors.__name__, file_errors.__name__) and not issubclass(kind, errors.StartupError):
            found += [kind, *client_errors(kind)]
    return found


def kinds() -> list[Kind]:
    """Every kind of problem that a client can meet, by number and name."""
    ours = [Kind(kind.slug, status_of(kind), kind.title, *GUIDES[kind]) for kind in client_errors()]
    return sorted([*ours, *_HTTP_KINDS], key=lambda kind: (kind.status, kind.slug))


def status_of(kind: type[errors.CodexError]) -> int:
    """The HTTP number of an error's class."""
    return next(STATUS_OF[base] for base in kind.__mro__ if base in STATUS_OF)


def kind_of_status(status: int) -> Kind:
    """The kind for a number that no error of ours was raised for; one of no kind of its own is found by its class."""
    full = Kind("unavailable", 503, errors.Unavailable.title, *GUIDES[errors.Unavailable])
    exact = {kind.status: kind for kind in (*_HTTP_KINDS, full)}
    return exact.get(status) or exact[400 if status < 500 else 500]


def public_detail(error: errors.CodexError) -> str:
    """What a client may read of ``error``."""
    return next((text for kind, text in _HIDDEN.items() if isinstance(error, kind)), error.detail)


def kept_problem(slug: str, detail: str, *, instance: str, base_url: str = "") -> dict[str, object]:
    """The content of a problem that was kept by its ``slug`` and ``detail``, as a client may read it."""
    kind = next(kind for kind in kinds() if kind.slug == slug)
    hidden = {error.slug: text for root, text in _HIDDEN.items() for error in (root, *client_errors(root))}
    return _content(kind, hidden.get(slug, detail), instance, base_url)


def _content(kind: Kind, detail: str, instance: str, base_url: str) -> dict[str, object]:
    return {
        "type": f"{base_url}{PAGE}#{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": instance,
        "code": kind.slug,
    }


def problem(
    slug: str,
    status: int,
    title: str,
    detail: str,
    *,
    instance: str,
    base_url: str = "",
    field_errors: Sequence[FieldError] = (),
    facts: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response that reports a problem. ``type`` leads to the kind's paragraph on ``GET /problems``.

    ``facts`` are further members.
    """
    content = {**_content(Kind(slug, status, title, "", ""), detail, instance, base_url), **(facts or {})}
    if field_errors:
        content["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in field_errors]
    return JSONResponse(
        content, status, headers={"Cache-Control": "no-store", **(headers or {})}, media_type=MEDIA_TYPE
    )
