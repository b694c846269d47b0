"""Refusals on the wire: RFC 9457 problems. The one table from our errors to HTTP numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import JSONResponse

from codex_server import errors
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
    errors.UnknownCheckpoint: 404,
    errors.FileRefused: 422,
    errors.UnknownPath: 404,
    errors.FileConflict: 409,
    errors.FileChanged: 412,
    errors.EditRefused: 422,
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

_GUIDE: Mapping[type[errors.CodexError], tuple[str, str]] = {
    errors.InvalidRequest: (
        "The body is JSON, but a field is missing, unknown, of the wrong type or out of range; or a header is wrong.",
        "`errors` lists each part at fault with a JSON Pointer. Mend these and send the request again.",
    ),
    errors.InvalidCode: (
        "`code` is empty, longer than the server takes (`CODEX_MAX_CODE`), or carries NUL or an unpaired surrogate.",
        "Send a program as plain Unicode text.",
    ),
    errors.UnknownLanguage: (
        "No runner has that name or alias.",
        "Take a name from `GET /languages`; the detail suggests the nearest one.",
    ),
    errors.LimitTooLoose: (
        "`timeout` or a field of `limits` is above this server's ceiling. A request can only tighten limits.",
        "Ask for no more than the ceiling that the detail names, or leave the field out to get it.",
    ),
    errors.IllegalPath: (
        "A path in `files` leaves the workspace (`../x`, `/etc/x`), names a folder, carries a control character, names "
        "the same file as another one, is both a file and a folder, or is the name under which the program itself is "
        "written (`main.py` for Python).",
        "Give each file a relative path of its own, such as `data/input.csv`.",
    ),
    errors.IdempotencyMismatch: (
        "The `Idempotency-Key` was used within the last day for a request with another body.",
        "Use a new key for a new request; repeat a request with the very same body.",
    ),
    errors.Unauthenticated: (
        "There is no token, or it is unknown, expired or revoked. A token in the address is never read.",
        "Send `Authorization: Bearer codex_...` (or `X-API-Key: codex_...`). `codex-server token create` makes one.",
    ),
    errors.Forbidden: (
        "The token is valid, but not for this: it lacks the scope. Or the server runs without tokens and a page of "
        "another origin called it.",
        "Use a token with the scope that the detail names: `codex-server token create --scope ...`.",
    ),
    errors.IdempotencyInFlight: (
        "The first request with this `Idempotency-Key` has not ended.",
        "Repeat the request after `Retry-After` seconds to get the first one's response.",
    ),
    errors.IdempotencyLost: (
        "The first request with this `Idempotency-Key` was running when its server was stopped or killed, or its "
        "response could not be kept. Whether its program ran is unknown. The key is free again after a day.",
        "Send the request with a new key if running the program twice does no harm.",
    ),
    errors.UnknownExecution: (
        "No execution of this token has that id: it is misspelt, another caller's, or no longer in the history.",
        "`GET /executions` lists those that there are.",
    ),
    errors.OutcomeGone: (
        "The execution has ended and its outcome is not kept: a call without `wait_seconds` gets its outcome alone, "
        "and the outcome of a background execution is kept for `CODEX_OUTCOME_SECONDS`.",
        "Send `wait_seconds` with a program whose outcome is to be fetched later, and fetch it in time.",
    ),
    errors.UnknownSession: (
        "The caller has no session with this id. Another caller's is unknown too, and so is one that ended long ago.",
        "Take the id from `GET /sessions`, or open one with `POST /sessions`.",
    ),
    errors.SessionEnded: (
        "The session has ended: it was closed, was idle for too long, reached its lifetime, or was lost with its "
        "server. Its variables are gone, and its files too, unless it had a named workspace.",
        "Open a new one with `POST /sessions`, and send again what it needs.",
    ),
    errors.SessionBusy: (
        "Another execution runs in the session: there is one at a time. Nothing was run.",
        "Wait for the other to end, interrupt it with `POST /sessions/{id}/interrupt`, or open another session.",
    ),
    errors.UnknownCheckpoint: (
        "No checkpoint of this token has that id: it is misspelt, another caller's, removed or expired "
        "(`CODEX_CHECKPOINT_SECONDS`).",
        "`GET /checkpoints` lists those that there are; `POST /sessions/{session_id}/checkpoints` makes one.",
    ),
    errors.FileRefused: (
        "An operation on the files of a session is refused: a path leads out of the workspace or through a link, a "
        "file is too large or no text, an archive or a pattern cannot be read.",
        "The detail says which. Mend it and send the request again.",
    ),
    errors.UnknownPath: (
        "There is nothing at this path of the session's workspace.",
        "Take a path from `GET /sessions/{id}/files`; paths are relative to the workspace.",
    ),
    errors.FileConflict: (
        "There is something at the target already, a folder is not empty or stands where a file is wanted; or a file "
        "would be overwritten that you have not read since it changed: `etag` and `unread` show what is there.",
        "Read the file and send the request again, or say `overwrite`, or name its tag in `If-Match`.",
    ),
    errors.FileChanged: (
        "The file does not have the entity tag of `If-Match`, or there is one in spite of `If-None-Match: *`.",
        "Read the file again: `etag` is the tag that it has now.",
    ),
    errors.EditRefused: (
        "A `search` text does not stand in the file, or at several places. Nothing was changed.",
        "`closest` shows the lines that are most like it, `lines` where it stands; send more or other lines.",
    ),
    errors.UnknownArtifact: (
        "The link to a file is not one that this server made: it was cut, changed or made up.",
        "Use the whole `url` of an entry of `files`, with its query.",
    ),
    errors.ArtifactGone: (
        "The file of the link is not kept any more: it is kept until `expires_at` (`CODEX_ARTIFACT_SECONDS`), and less "
        "long where the operator has made the room for files smaller.",
        "Run the program again, and fetch its files in time.",
    ),
    errors.UnknownFile: (
        "No uploaded file of this token has that id: it is misspelt, another caller's, removed or expired.",
        "`GET /files` lists those that there are; `POST /files` uploads one.",
    ),
    errors.StorageFull: (
        "The file does not fit into what is kept of the caller's files (`CODEX_MAX_ARTIFACTS_CALLER`), or of all files "
        "(`CODEX_MAX_ARTIFACTS`).",
        "Send a smaller file, or wait until others have expired (`CODEX_ARTIFACT_SECONDS`).",
    ),
    errors.InputRefused: (
        "The program takes no input now: it has ended, it was started without `keep_stdin_open`, its standard input "
        "was closed, or it has not read what was sent before.",
        "Start the program with `keep_stdin_open: true`; where it has not read yet, send the input again "
        "a moment later.",
    ),
    errors.ExecutionLost: (
        "The execution ran when its server was killed, so its outcome is unknown. It is not run again by itself.",
        "Send the request again if running the program twice does no harm.",
    ),
    errors.Cancelled: (
        "The execution was cancelled (`DELETE /executions/{id}`) while it waited in the queue. Nothing was run.",
        "Send the request again if the program is to run after all.",
    ),
    errors.NoPublicAddress: (
        "`/actions/openapi.json` names the https address that ChatGPT calls, and this server does not know it: "
        "`CODEX_PUBLIC_URL` is not set, or is no https address, and no proxy that is trusted says one.",
        "Set `CODEX_PUBLIC_URL` to the https address that ChatGPT is to call, or name your proxy in "
        "`CODEX_TRUSTED_PROXIES`.",
    ),
    errors.NotRun: (
        "An earlier item of the batch failed, and `stop_on_failure` was set.",
        "Mend that item, and send this one again.",
    ),
    errors.TooLarge: (
        "The body is above the server's cap: `CODEX_MAX_BODY`, or `CODEX_MAX_UPLOAD` for a file that is uploaded.",
        "Send less, or raise the cap that the detail names if the server is yours.",
    ),
    errors.RateLimited: (
        "This token, or this address where there are no tokens, sent more requests to `/execute` than "
        "`CODEX_RATE_LIMIT` allows; refused and replayed ones count too.",
        "Wait `Retry-After` seconds. `RateLimit` on each response reports how many are left.",
    ),
    errors.QuotaExceeded: (
        "This token, or this address where there are no tokens, has used up the executions or the CPU seconds that it "
        "may use in a UTC day (`CODEX_QUOTA_EXECUTIONS`, `CODEX_QUOTA_CPU_SECONDS`). Nothing was run.",
        "Wait `Retry-After` seconds, until midnight in UTC. `Quota` on each response reports how much is left.",
    ),
    errors.Unavailable: (
        "The server cannot take the request now. Nothing of it has begun.",
        "Repeat it after `Retry-After` seconds.",
    ),
    errors.Busy: (
        "Every sandbox is in use and the queue is full, or the wait was too long; or as many files are being "
        "uploaded as the server receives at once. Nothing has begun.",
        "Repeat the request after `Retry-After` seconds; raise `CODEX_MAX_CONCURRENCY` if the machine has room.",
    ),
    errors.Draining: (
        "The server is stopping: running executions finish, new ones are refused.",
        "Repeat the request after `Retry-After` seconds, when the server is back or another one has taken over.",
    ),
    errors.SessionsFull: (
        "As many sessions are open as there may be of one caller (`CODEX_MAX_SESSIONS_CALLER`) or in all "
        "(`CODEX_MAX_SESSIONS`), or their memory limits together leave no room for this one "
        "(`CODEX_SESSIONS_MEMORY`). No session was opened.",
        "Close one with `DELETE /sessions/{session_id}`, ask for less `limits.memory_bytes`, or repeat the request "
        "after `Retry-After` seconds, when the next idle one ends.",
    ),
    errors.LanguageUnavailable: (
        "The language is known, but its interpreter is not on the server's machine.",
        "`GET /languages` lists what is available; `codex-server doctor` on the machine says what to install.",
    ),
    errors.SandboxUnavailable: (
        "No sandbox could be made. Nothing has begun.",
        "Repeat the request after `Retry-After` seconds. If it persists, `codex-server doctor` and the log say why.",
    ),
    errors.SandboxFault: (
        "The sandbox was lost after the program may have begun: what became of the program is unknown, and it is not "
        "run again.",
        "Repeat the request if running the program twice does no harm. The log has the cause under the request's id.",
    ),
    errors.ProtocolViolation: (
        "The sandbox's side sent what it must not send, and was destroyed. What became of the program is unknown.",
        "As for `sandbox-fault`. If it persists with the same program, report it: see `SECURITY.md`.",
    ),
}

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
        # An edge may refine an error (and keep its slug); the project's own errors are those in ``errors``.
        if kind.__module__ == errors.__name__ and not issubclass(kind, errors.StartupError):
            found += [kind, *client_errors(kind)]
    return found


def kinds() -> list[Kind]:
    """Every kind of problem that a client can meet, by number and name."""
    ours = [Kind(kind.slug, status_of(kind), kind.title, *_GUIDE[kind]) for kind in client_errors()]
    return sorted([*ours, *_HTTP_KINDS], key=lambda kind: (kind.status, kind.slug))


def status_of(kind: type[errors.CodexError]) -> int:
    """The HTTP number of an error's class."""
    return next(STATUS_OF[base] for base in kind.__mro__ if base in STATUS_OF)


def kind_of_status(status: int) -> Kind:
    """The kind for a number that no error of ours was raised for; one of no kind of its own is found by its class."""
    full = Kind("unavailable", 503, errors.Unavailable.title, *_GUIDE[errors.Unavailable])
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
