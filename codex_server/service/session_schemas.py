"""The shapes of sessions, and of the responses of executions in them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from codex_server.service.schemas import ExecuteResponse, RequestFile, RequestLimits, Seconds, Truncated


class SessionRequest(BaseModel):
    """A session to open; every field may be left out."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    languages: list[str] = Field(
        default=[],
        description="Names or aliases of the languages that it may run; by default all. The interpreters of those that "
        "are named are started at once, in the background; without a list that of Python is, which is warm",
        examples=[["python", "bash"]],
    )
    workspace: str = Field(
        "", description="Name of a folder of the operator's to work in; by default a folder of its own, in memory"
    )
    ttl_seconds: Seconds = Field(
        900, ge=1, description="How long it lives while nobody uses it; each use starts that time again"
    )
    limits: RequestLimits = Field(
        default=RequestLimits(),
        description="Limits to tighten: CPU time and output are those of each execution in it, the others hold for the "
        "whole session",
    )
    files: list[RequestFile] = Field(default=[], description="Files to write into its workspace")
    checkpoint: str = Field(
        "", description="Id of a checkpoint whose files it begins with; one of `files` with the same path wins"
    )

    @property
    def resumes(self) -> bool:
        """Whether it begins with a checkpoint."""
        return "checkpoint" in self.model_fields_set


class SessionLanguage(BaseModel):
    """A language of a session."""

    version: str | None = Field(description="Version of the interpreter")
    started: bool = Field(description="Whether its interpreter lives; else it is started at the first use")


class SessionLimits(BaseModel):
    """The limits of a session."""

    memory_bytes: int = Field(description="Memory of all its processes, with its files")
    cpu_seconds: float = Field(description="CPU time of one execution")
    processes: int = Field(description="Processes and threads together")
    output_bytes: int = Field(description="Bytes kept of each stream of one execution, head and tail")
    file_bytes: int = Field(description="Largest file that a program may write")


class SessionResponse(BaseModel):
    """An open session."""

    session_id: str = Field(description="Id of the session")
    languages: dict[str, SessionLanguage] = Field(description="What may run in it, by name")
    workspace: str | None = Field(description="Name of the operator's folder that it works in; null: one of its own")
    created_at: datetime = Field(description="When it was opened (RFC 3339, UTC)")
    expires_at: datetime = Field(description="When it ends unless it is used before (RFC 3339, UTC)")
    limits: SessionLimits


class CheckpointRequest(BaseModel):
    """A checkpoint to make."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    description: str = Field("", max_length=1000, description="What it is, for whoever finds it later")
    globs: list[Annotated[str, Field(min_length=1, max_length=1024)]] = Field(
        default=["**"],
        min_length=1,
        max_length=100,
        description="Which files: `*` stays within a name, `**` crosses folders; a pattern without `/` means names in "
        "every folder, a folder all that is in it. By default all",
        examples=[["*.csv", "src/**/*.py"]],
    )


class CheckpointFile(BaseModel):
    """A file of a checkpoint."""

    path: str = Field(description="Path inside the workspace")
    size: int = Field(description="Size in bytes")


class CheckpointResponse(BaseModel):
    """Files of a session that are kept, for a new one to begin with."""

    checkpoint_id: str = Field(description="Id of the checkpoint")
    description: str = Field(description="What it is, as its request said")
    created_at: datetime = Field(description="When it was made (RFC 3339, UTC)")
    files: list[CheckpointFile] = Field(description="What it holds, in order of paths")
    expires_at: datetime = Field(description="How long it is kept (RFC 3339, UTC)")


class SessionTruncated(Truncated):
    """What is not whole: of a stream bytes are missing, of the result a form or the middle of its text."""

    result: bool


class SessionExecuteResponse(ExecuteResponse):
    """What became of an execution in a session.

    What an interpreter that lives says of itself is its claim, and no measurement: `result`, and the `exit_code` 0 or 1
    of a cell that returned or raised. Everything else is from the kernel and the supervisor.
    """

    truncated: SessionTruncated
    execution_count: int | None = Field(
        description="The number of this execution in its session, from 1; null where nothing is known of its end"
    )
    result: dict[str, Any] | None = Field(
        description="The value of the last expression in the forms that it offers, by media type: text, base64 for "
        "png and jpeg, JSON. Of a Python cell without a value: what it gave to `display()` last, without `text/plain`, "
        "which was printed. Null where there is none. The interpreter's claim"
    )
    interpreter_restarted: bool | None = Field(
        description="Whether the interpreter ended or was killed: its variables are gone, the files stay. Null when "
        "the session ended with it"
    )
    session_expires_at: datetime | None = Field(
        description="When the session ends unless it is used before (RFC 3339, UTC); null when it has ended"
    )
