"""The errors of the server and of its callers; a user's program that fails is an outcome, not an error.

::

    CodexError
    |- InvalidRequest             the request cannot be carried out as it stands
    |   |- InvalidCode            the code is empty, too long, or contains what no program can
    |   |- UnknownLanguage        no runner has that name
    |   |- LimitTooLoose          a limit above the server's ceiling
    |   |- IllegalPath            a file's path would leave the workspace, or is given twice
    |   `- IdempotencyMismatch    the Idempotency-Key was used with another body
    |- Unauthenticated            no valid token
    |- Forbidden                  the token lacks the scope
    |- IdempotencyInFlight        the first request with that Idempotency-Key is still running
    |- IdempotencyLost            nobody knows what became of the first request with that Idempotency-Key
    |- ExecutionLost              the execution ran when its server was killed
    |- Cancelled                  the execution was cancelled before it began
    |- NotRun                     an item of a batch was not run: an earlier one failed
    |- UnknownExecution           the caller has no execution with that id
    |- OutcomeGone                the execution has ended, and its outcome is not kept
    |- UnknownSession             the caller has no session with that id
    |- SessionEnded               the session has ended: its variables and files are gone
    |- SessionBusy                another execution runs in the session
    |- UnknownShell               the session has no shell with that name
    |- UnknownCheckpoint          the caller has no checkpoint with that id
    |- UnknownWorkspace           the operator has named no folder so
    |- UnknownArtifact            the link is not one that this server made
    |- ArtifactGone               the file of a link is not kept any more
    |- UnknownFile                the caller has no uploaded file with that id
    |- StorageFull                a file does not fit into what is kept of files
    |- InputRefused               the program takes no input, or none now
    |- NoPublicAddress            the server's https address, which ChatGPT needs, is not known
    |- TooLarge                   the body is above the server's limit
    |- RateLimited                this caller sends too many requests
    |- QuotaExceeded              this caller has used up what it may use in a day
    |- Unavailable                this server cannot take the request now
    |   |- Busy                   the queue is full, or the wait was too long
    |   |- Draining               the server is stopping
    |   |- SessionsFull           there is no room for another session
    |   |- LanguageUnavailable    the language's interpreter is not on this machine
    |   `- SandboxUnavailable     no sandbox could be made
    |- SandboxFault               the sandbox was lost after the program may have begun: outcome unknown
    |   `- ProtocolViolation      a frame from the guest side breaks the protocol
    `- StartupError               at start only; never reaches a client
        |- SettingsInvalid        one or more settings are wrong
        |- IsolationTooWeak       this host cannot give the isolation that CODEX_MIN_ISOLATION asks for
        |- StoreUnusable          the durable state cannot be read or written
        |- InstallationFailed     a runner's packages cannot be installed
        `- ImageNotBuilt          a runner's container image cannot be built

Each class has a ``slug`` (the ``code`` in a problem) and a ``title``; each message says what to do next.
Those about the files of a session are in ``file_errors.py``. HTTP status codes are in ``api/problems.py``.
"""

from typing import ClassVar


class CodexError(Exception):
    """The base class; never raised itself."""

    slug: ClassVar[str] = "error"
    title: ClassVar[str] = "Error"

    @property
    def detail(self) -> str:
        """What happened and what to do, in a sentence or two."""
        return str(self)


class InvalidRequest(CodexError):
    """The request cannot be carried out as it stands. ``pointer`` is a JSON Pointer to the part at fault."""

    slug = "invalid-request"
    title = "The request is not valid"

    def __init__(self, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer = pointer


class InvalidCode(InvalidRequest):
    """The code is empty, above the server's limit, or contains NUL or an unpaired surrogate."""

    slug = "invalid-code"
    title = "The code cannot be run"


class UnknownLanguage(InvalidRequest):
    """No runner has that name or alias."""

    slug = "unknown-language"
    title = "Unknown language"


class LimitTooLoose(InvalidRequest):
    """A requested limit is above the server's ceiling; a client can only tighten."""

    slug = "limit-too-loose"
    title = "A limit is above the server's ceiling"


class IllegalPath(InvalidRequest):
    """A file's path is absolute, climbs out of the workspace, or appears twice."""

    slug = "illegal-path"
    title = "A file's path is not allowed"


class IdempotencyMismatch(InvalidRequest):
    """The Idempotency-Key belongs to a request with another body."""

    slug = "idempotency-mismatch"
    title = "The Idempotency-Key was used for another request"


class Unauthenticated(CodexError):
    """No token, or one that is unknown, expired or revoked."""

    slug = "unauthenticated"
    title = "A valid bearer token is required"


class Forbidden(CodexError):
    """The token is valid but lacks the scope."""

    slug = "forbidden"
    title = "The token does not allow this"


class IdempotencyInFlight(CodexError):
    """The first request with this Idempotency-Key is still running."""

    slug = "idempotency-in-flight"
    title = "A request with this Idempotency-Key is still running"


class IdempotencyLost(CodexError):
    """The first request with this Idempotency-Key began, and nobody knows what became of it."""

    slug = "idempotency-lost"
    title = "The result of the first request with this Idempotency-Key is lost"


class NoPublicAddress(CodexError):
    """The document for ChatGPT cannot be made: the server's own https address is not known."""

    slug = "no-public-address"
    title = "This server's public https address is not known"


class UnknownExecution(CodexError):
    """The caller has no execution with this id; another caller's is unknown too."""

    slug = "unknown-execution"
    title = "There is no such execution"


class OutcomeGone(CodexError):
    """The execution has ended, and its outcome is not kept, or not any more."""

    slug = "outcome-gone"
    title = "The outcome is not kept"


class UnknownSession(CodexError):
    """The caller has no session with this id; another caller's is unknown too."""

    slug = "unknown-session"
    title = "There is no such session"


class SessionEnded(CodexError):
    """The session has ended; the detail says when and why. A new one does not have its variables or files."""

    slug = "session-ended"
    title = "The session has ended"


class SessionBusy(CodexError):
    """Another execution runs in the session, and did not end in time."""

    slug = "session-busy"
    title = "The session is busy"


class UnknownWorkspace(CodexError):
    """The operator has named no folder so; the message lists the names that there are."""

    slug = "unknown-workspace"
    title = "Unknown workspace"


class UnknownShell(CodexError):
    """The session has no shell with this name: it was never called, or has ended."""

    slug = "unknown-shell"
    title = "There is no such shell"


class UnknownCheckpoint(CodexError):
    """The caller has no checkpoint with this id, or its time is over; another caller's is unknown too."""

    slug = "unknown-checkpoint"
    title = "There is no such checkpoint"


class UnknownArtifact(CodexError):
    """The link to a file is not one that this server made; whether there is such a file is not said."""

    slug = "unknown-artifact"
    title = "There is no such file"


class ArtifactGone(CodexError):
    """The link is genuine, and its file is not kept any more."""

    slug = "artifact-gone"
    title = "The file is not kept any more"


class UnknownFile(CodexError):
    """The caller has uploaded no file with this id, or it has expired; another caller's is unknown too."""

    slug = "unknown-file"
    title = "There is no such uploaded file"


class StorageFull(CodexError):
    """A file does not fit into what is kept of the caller's files, or of all files."""

    slug = "storage-full"
    title = "There is no room for the file"


class InputRefused(CodexError):
    """The program takes no input: it has ended, its standard input is closed, or it has not read what was sent."""

    slug = "input-refused"
    title = "The program takes no input"


class ExecutionLost(CodexError):
    """The execution ran when its server was killed: its outcome is unknown, and it is not run again."""

    slug = "execution-lost"
    title = "The execution was lost with its server"


class Cancelled(CodexError):
    """The execution was cancelled while it waited in the queue; nothing of it has begun."""

    slug = "cancelled"
    title = "The execution was cancelled"


class NotRun(CodexError):
    """An item of a batch was not run, because an earlier one failed and the caller asked to stop there."""

    slug = "not-run"
    title = "The item was not run"


class TooLarge(CodexError):
    """The request's body is above the server's cap."""

    slug = "too-large"
    title = "The request is too large"


class RateLimited(CodexError):
    """This caller made more requests than its policy allows. ``retry_after`` in whole seconds."""

    slug = "rate-limited"
    title = "Too many requests"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class QuotaExceeded(CodexError):
    """This caller has used up what it may use in a day. ``retry_after`` in whole seconds."""

    slug = "quota-exceeded"
    title = "The day's quota is used up"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(CodexError):
    """This server cannot take the request now; nothing of it has begun. ``retry_after`` in whole seconds."""

    slug = "unavailable"
    title = "The server cannot take the request now"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Busy(Unavailable):
    """Every sandbox is in use and the queue is full, or the wait was too long."""

    slug = "busy"
    title = "The server is full"


class Draining(Unavailable):
    """The server is stopping: running executions finish, new ones are rejected."""

    slug = "draining"
    title = "The server is stopping"


class SessionsFull(Unavailable):
    """There are as many sessions as there may be, or no memory is left for another one."""

    slug = "sessions-full"
    title = "There is no room for another session"


class LanguageUnavailable(Unavailable):
    """The runner is known, but its interpreter is not on this machine."""

    slug = "language-unavailable"
    title = "The language is not available on this server"


class SandboxUnavailable(Unavailable):
    """No sandbox could be made; the program has not begun."""

    slug = "sandbox-unavailable"
    title = "No sandbox could be made"


class SandboxFault(CodexError):
    """The server lost a sandbox after the program may have begun: the outcome is unknown, and it is not run again."""

    slug = "sandbox-fault"
    title = "The sandbox was lost"


class ProtocolViolation(SandboxFault):
    """A frame from the guest side breaks the protocol; the sandbox is destroyed."""

    slug = "protocol-violation"
    title = "The sandbox broke the protocol"


class StartupError(CodexError):
    """The server does not start. Shown on the terminal; never reaches a client."""

    slug = "startup"
    title = "The server cannot start"


class SettingsInvalid(StartupError):
    """One or more settings are wrong; the message names every one."""

    slug = "settings-invalid"
    title = "The settings are not valid"


class IsolationTooWeak(StartupError):
    """This host cannot give the required isolation; the message names the cause and the remedy."""

    slug = "isolation-too-weak"
    title = "The required isolation cannot be reached"


class StoreUnusable(StartupError):
    """The durable state cannot be read or written; the file was left as it is. A client sees a fault of the server."""

    slug = "store-unusable"
    title = "The durable state cannot be used"


class InstallationFailed(StartupError):
    """A runner's packages cannot be installed; the message names cause and remedy. No partial installation remains."""

    slug = "installation-failed"
    title = "A runner's packages cannot be installed"


class ImageNotBuilt(StartupError):
    """A runner's container image could not be built; an existing image is unchanged."""

    slug = "image-not-built"
    title = "The image was not built"
