"""The shapes that only HTTP has; each description is what the OpenAPI document shows."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from codex_server.service.history import ExecutionEntry
from codex_server.service.schemas import ExecuteResponse
from codex_server.service.session_schemas import CheckpointResponse, SessionExecuteResponse, SessionResponse


class ExecutionsPage(BaseModel):
    """A page of executions."""

    executions: list[ExecutionEntry] = Field(description="Executions of the caller's own, newest first")
    next: str | None = Field(None, description="`cursor` of the next page; null on the last one")


class UploadedFile(BaseModel):
    """A file that was uploaded, for `files` of executions."""

    file_id: str = Field(description="Id of the file: `files: [{path, file_id}]` in a request")
    name: str = Field(description="Its name, without folders")
    size: int = Field(description="Size in bytes")
    media_type: str = Field(description="By the name's last extension; else text/plain or application/octet-stream")
    expires_at: datetime = Field(description="How long it is kept (RFC 3339, UTC)")


class FilesPage(BaseModel):
    """A page of uploaded files."""

    files: list[UploadedFile] = Field(description="Files of the caller's own, newest first")
    next: str | None = Field(None, description="`cursor` of the next page; null on the last one")


class SessionsPage(BaseModel):
    """A page of sessions."""

    sessions: list[SessionResponse] = Field(description="Open sessions of the caller's own, newest first")
    next: str | None = Field(None, description="`cursor` of the next page; null on the last one")


class CheckpointsPage(BaseModel):
    """A page of checkpoints."""

    checkpoints: list[CheckpointResponse] = Field(description="Checkpoints of the caller's own, newest first")
    next: str | None = Field(None, description="`cursor` of the next page; null on the last one")


class InterruptResponse(BaseModel):
    """Whether an execution was interrupted."""

    interrupted: bool = Field(description="False when none ran")


class ExecutionProgress(BaseModel):
    """What is new of an execution that has no outcome."""

    execution_id: str = Field(description="Id of the execution")
    status: Literal["queued", "running", "refused", "lost", "cancelled"] = Field(
        description="refused: nothing was run; lost: its outcome is unknown, and it is not run again"
    )
    stdout: str = Field(description="New standard output")
    stderr: str = Field(description="New standard error")
    next: int = Field(description="`since` of the next call")
    problem: dict[str, object] | None = Field(None, description="Why it has no outcome, once it has ended")


class EndedExecution(ExecuteResponse):
    """The response of `/execute`; `stdout`, `stderr` and `error` carry only output that is new."""

    next: int = Field(description="`since` of the next call")


class EndedSessionExecution(SessionExecuteResponse):
    """The same of an execution in a session."""

    next: int = Field(description="`since` of the next call")


class BatchProblem(BaseModel):
    """Why an item has no outcome."""

    problem: dict[str, object] = Field(description="A problem, as a refused request gets it")


class BatchResponse(BaseModel):
    """What became of each item, in the order of the request."""

    items: list[ExecuteResponse | SessionExecuteResponse | BatchProblem]


class LiveResponse(BaseModel):
    """The process responds."""

    status: Literal["alive"] = "alive"


class ReadyResponse(BaseModel):
    """Whether the server has sandboxes ready."""

    status: Literal["ready", "not_ready"]
    reasons: list[str] = Field(description="What is not ready; empty when all is")
    isolation: Literal["confined", "namespaces", "full"] = Field(description="How strongly programs are kept in")
    running: int = Field(description="Executions in a sandbox")
    queued: int = Field(description="Executions that wait for a place")
    armed: dict[str, int] = Field(description="Sandboxes that stand ready, by pool")


class HomeResponse(BaseModel):
    """What this is, and where to go."""

    name: str
    version: str
    links: dict[str, str] = Field(description="Path of each route by its purpose")


class FieldFault(BaseModel):
    """One part of the request at fault."""

    pointer: str = Field(description="JSON Pointer into the body")
    detail: str = Field(description="What is wrong with it")


class Problem(BaseModel):
    """A refusal, after RFC 9457."""

    type: str = Field(description="Address of the page that explains this kind")
    title: str = Field(description="The kind in words")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="What happened, and what to do")
    instance: str = Field(description="The request's id, also in `X-Request-ID` and in the log")
    code: str = Field(description="The kind as a word for programs")
    errors: list[FieldFault] = Field(default=[], description="The parts of the request at fault")
