"""What each kind of problem means and what to do about it, for ``docs/problems.md`` and ``GET /problems``."""

from collections.abc import Mapping

from codex_server import errors, file_errors

GUIDES: Mapping[type[errors.CodexError], tuple[str, str]] = {
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
    errors.UnknownShell: (
        "The session has no shell of that name: it was never called, has ended, or was closed before.",
        "`GET /sessions/{session_id}/shells` lists those that there are; a call to a new name starts one.",
    ),
    errors.UnknownCheckpoint: (
        "No checkpoint of this token has that id: it is misspelt, another caller's, removed or expired "
        "(`CODEX_CHECKPOINT_SECONDS`).",
        "`GET /checkpoints` lists those that there are; `POST /sessions/{session_id}/checkpoints` makes one.",
    ),
    errors.UnknownWorkspace: (
        "The operator of this server has named no folder so.",
        "`GET /workspaces` lists the names that there are.",
    ),
    file_errors.FileRefused: (
        "An operation on the files of a session is refused: a path leads out of the workspace or through a link, a "
        "file is too large or no text, an archive or a pattern cannot be read.",
        "The detail says which. Mend it and send the request again.",
    ),
    file_errors.UnknownPath: (
        "There is nothing at this path of the session's workspace.",
        "Take a path from `GET /sessions/{id}/files`; paths are relative to the workspace.",
    ),
    file_errors.FileConflict: (
        "There is something at the target already, a folder is not empty or stands where a file is wanted; or a file "
        "would be overwritten that you have not read since it changed: `etag` and `unread` show what is there.",
        "Read the file and send the request again, or say `overwrite`, or name its tag in `If-Match`.",
    ),
    file_errors.FileChanged: (
        "The file does not have the entity tag of `If-Match`, or there is one in spite of `If-None-Match: *`.",
        "Read the file again: `etag` is the tag that it has now.",
    ),
    file_errors.EditRefused: (
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
