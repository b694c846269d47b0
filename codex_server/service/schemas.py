"""The shapes of requests and responses; each description and example is what the OpenAPI document shows."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from codex_server.model import Status


def _whole(value: object) -> object:
    """JSON has one kind of number: 64.0 is 64."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(le=2**63 - 1)]
"""No more than the kernel can count: JSON can write whole numbers that are too large even for a message."""


class RequestFile(BaseModel):
    """A file to write into the workspace before the run."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, title="RequestFile")

    path: str = Field(
        description="Path inside the workspace; `./a//b` is `a/b`, and so is `/mnt/data/a/b`",
        examples=["data/input.csv"],
    )
    content: str = Field("", description="The content, in the form that `encoding` names", examples=["a,b\n1,2\n"])
    encoding: Literal["utf-8", "base64"] = Field("utf-8", description="Form of `content`; base64 for binary files")
    file_id: str = Field("", description="Id of a file that was uploaded with `POST /files`, in place of `content`")


@with_config(ConfigDict(extra="forbid", strict=True, title="RequestLimits"))
class RequestLimits(TypedDict, total=False):
    """Limits to tighten; one that is left out is the server's."""

    memory_bytes: Annotated[Count, Field(ge=16 * 2**20, description="Memory of all processes, with files"), Whole]
    cpu_seconds: Annotated[Seconds, Field(gt=0, description="CPU time of all processes together")]
    processes: Annotated[Count, Field(ge=1, description="Processes and threads together"), Whole]
    output_bytes: Annotated[Count, Field(ge=64, description="Bytes kept of each stream, head and tail"), Whole]
    file_bytes: Annotated[Count, Field(ge=0, description="Largest file that the program may write"), Whole]


class RequestTerminal(BaseModel):
    """A terminal's window."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, title="RequestTerminal")

    rows: Annotated[int, Whole] = Field(24, ge=1, le=500, description="Lines of the window")
    columns: Annotated[int, Whole] = Field(80, ge=1, le=500, description="Characters in a line")


class ExecuteRequest(BaseModel):
    """Code to run, and how."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    code: str = Field(description="The program", examples=["print('Hello World')"], json_schema_extra={"minLength": 1})
    language: str = Field("python", description="A name or alias from `/languages`", examples=["python", "javascript"])
    timeout: Seconds = Field(10, ge=1, description="Wall seconds for the program; waiting for a place is not counted")
    stdin: str = Field("", description="Standard input of the program")
    args: list[str] = Field(default=[], description="Arguments of the program")
    env: dict[str, str] = Field(default={}, description="Further environment variables")
    files: list[RequestFile] = Field(default=[], description="Files to write into the workspace before the run")
    limits: RequestLimits = Field(default=RequestLimits(), description="Limits to tighten")
    max_inline_bytes: Annotated[Count, Whole] = Field(
        32 * 2**10,
        ge=0,
        description="Largest file whose content stands in the response; larger ones come as links. By default, and at "
        "most, the server's own bound",
    )
    wait_seconds: Seconds = Field(
        0,
        ge=0,
        le=600,
        description="Run it in the background: respond after so many seconds at the latest, with 202 if it has not "
        "ended. By default the response waits for the end, and closing the connection cancels",
    )

    keep_stdin_open: bool = Field(
        False, description="Keep standard input open after `stdin`: `POST /executions/{execution_id}/input` sends more"
    )

    merge_streams: bool = Field(
        False, description="Make standard output and standard error one stream, in exact order: `stdout` has both"
    )

    terminal: RequestTerminal = Field(
        default_factory=RequestTerminal,
        description="Run it in a terminal of this size (by default in none); its output is `stdout`",
        examples=[{"rows": 24, "columns": 80}],
    )

    session: str = Field("", description="Id of the session to run it in, from `POST /sessions`; by default in none")
    if_busy: Literal["wait", "reject"] = Field(
        "wait",
        description="While another execution runs in the session: wait, for at most the program's `timeout`, or be "
        "rejected with 409",
    )

    @property
    def in_session(self) -> bool:
        """Whether it asks for a session."""
        return "session" in self.model_fields_set

    @property
    def in_terminal(self) -> bool:
        """Whether it asks for a terminal."""
        return "terminal" in self.model_fields_set

    @property
    def background(self) -> bool:
        """Whether it outlives its call."""
        return "wait_seconds" in self.model_fields_set


class InputRequest(BaseModel):
    """Input for a program that runs: exactly one of the fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    text: str = Field("", description="Text to send", examples=["42\n"])
    base64: str = Field("", description="Bytes to send, as base64")
    eof: bool = Field(False, description="End standard input")


class BatchRequest(BaseModel):
    """Programs to run, a few at a time."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    items: list[object] = Field(
        description="What to run: each as the body of `/execute`",
        min_length=1,
        max_length=100,
        json_schema_extra={"items": {"$ref": "#/components/schemas/ExecuteRequest"}},
    )
    max_parallel: Annotated[int, Whole] = Field(4, ge=1, le=100, description="How many may run at once")
    stop_on_failure: bool = Field(False, description="Begin no further item once one did not succeed")


class Truncated(BaseModel):
    """Which streams are not whole: bytes are missing between their head and their tail."""

    stdout: bool
    stderr: bool


class Usage(BaseModel):
    """What the execution took."""

    queue_seconds: float = Field(description="Wait for a place")
    wall_seconds: float = Field(description="Wall time of the program")
    cpu_seconds: float | None = Field(description="CPU time of all its processes; null where it could not be measured")
    peak_memory_bytes: int | None = Field(description="Most memory at once; null where the host cannot measure it")
    stdout_bytes: int = Field(description="Bytes that the program wrote to standard output, kept or not")
    stderr_bytes: int = Field(description="Bytes that the program wrote to standard error, kept or not")


class ResponseFile(BaseModel):
    """A file that the program left in the workspace."""

    path: str = Field(description="Path inside the workspace")
    size: int = Field(description="Size in bytes")
    media_type: str = Field(description="By the name's last extension; else text/plain or application/octet-stream")
    content: str = Field(description="The content, in the form that `encoding` names")
    encoding: Literal["utf-8", "base64"] = Field(description="utf-8 for text, else base64")


class LinkedFile(BaseModel):
    """A file that the program left in the workspace, and that is fetched by its link."""

    path: str = Field(description="Path inside the workspace")
    size: int = Field(description="Size in bytes")
    media_type: str = Field(description="By the name's last extension; else text/plain or application/octet-stream")
    url: str = Field(description="Where to fetch it (`GET`, no token); a path where the server's address is not known")
    expires_at: datetime = Field(description="How long it is kept (RFC 3339, UTC)")


class LeftOutFile(BaseModel):
    """Something that the program left, and that is not handed back."""

    path: str = Field(description="Path inside the workspace, or below `/tmp`; `*` stands for many that are not listed")
    size: int | None = Field(description="Size in bytes, where it has one")
    reason: str = Field(description="Why it is not handed back")


class ExecuteResponse(BaseModel):
    """What became of the execution. HTTP 200 does not say that the program worked: `status` does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    execution_id: str = Field(description="Id of the execution")
    status: Status = Field(description="What became of it")
    output: str = Field(description="Standard output from execution; the same as `stdout`")
    error: str | None = Field(description="Null when all went well; else the reason, then standard error")
    exit_code: int = Field(description="Process exit code; 128 + signal when a signal ended it")
    signal: str | None = Field(description="Name of the signal that ended it, or null")
    execution_time: float = Field(description="Wall seconds of the program alone")
    timestamp: datetime = Field(description="When the program started (RFC 3339, UTC)")
    stdout: str = Field(description="Standard output; bytes that are not UTF-8 are U+FFFD")
    stderr: str = Field(description="Standard error; bytes that are not UTF-8 are U+FFFD")
    truncated: Truncated
    usage: Usage
    files: list[ResponseFile | LinkedFile] = Field(
        description="Files that the program left in the workspace: the content of small ones, links to the others"
    )
    skipped_files: list[LeftOutFile] = Field(description="What else it left there, and why it is not in `files`")


class PackageEntry(BaseModel):
    """A package that programs may import."""

    name: str = Field(description="Name as its registry has it")
    version: str = Field(description="Installed version")


class LanguageEntry(BaseModel):
    """A language that the server knows."""

    name: str = Field(description="Name to use in a request")
    title: str = Field(description="Name for people")
    version: str | None = Field(description="Version that the interpreter reported, or null when it is not installed")
    available: bool = Field(description="Whether it can be run now")
    aliases: list[str] = Field(description="Further names that a request may use")
    file_name: str = Field(description="Name under which the program is written")
    packages: list[PackageEntry] = Field(
        default=[], description="What programs may import beside the language's own library"
    )


class LanguagesResponse(BaseModel):
    """Every language that the server knows."""

    languages: list[LanguageEntry]


class HealthResponse(BaseModel):
    """How the server is."""

    status: Literal["healthy", "degraded", "draining"] = Field(
        description="healthy; degraded: `/readyz` has reasons; draining: stopping, new executions are refused"
    )
    version: str = Field(description="Version of the server")
    languages: list[str] = Field(description="Names of the languages that can be run")
    isolation: Literal["confined", "namespaces", "full"] = Field(description="How strongly programs are kept in")
    timestamp: datetime = Field(description="Now (RFC 3339, UTC)")
