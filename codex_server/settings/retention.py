"""What the server keeps of executions after their call, and for how long."""

from pydantic import BaseModel, Field

from codex_server.settings.field_types import Size


class RetentionSettings(BaseModel):
    """What the server keeps of executions after their call, and for how long."""

    max_background_timeout: float = Field(
        600.0,
        ge=1,
        le=86_400,
        description="Largest timeout, and CPU time, of a program that runs in the background "
        "(`wait_seconds`), in seconds",
    )
    outcome_seconds: float = Field(
        3600.0, ge=1, le=30 * 86_400, description="How long the outcome of a background execution is kept"
    )
    max_outcomes: Size = Field(
        64 * 2**20, ge=2**20, description="Size of all outcomes that are kept; the oldest give way"
    )
    history_days: float = Field(
        30.0, gt=0, le=3650, description="How long an execution stays in the history, and a day in the usage, in days"
    )
    history_entries: int = Field(100_000, ge=1, description="Executions in the history; the oldest give way")
    history_code: bool = Field(
        False, description="Keep each program and its output in the history too, for the operator and its caller"
    )
    artifact_seconds: float = Field(
        3600.0,
        ge=1,
        le=30 * 86_400,
        description="How long a file is kept: one that is too large for its response, or an upload",
    )
    max_artifact: Size = Field(
        64 * 2**20, ge=0, le=2**30, description="Largest file of the workspace that is kept; 0: none is"
    )
    max_artifacts_execution: Size = Field(
        64 * 2**20, ge=0, le=2**30, description="Size of all files of one execution that are kept"
    )
    max_artifacts_caller: Size = Field(256 * 2**20, ge=0, description="Size of all files that are kept for one caller")
    max_artifacts: Size = Field(2**30, ge=0, description="Size of all files that are kept, on the state folder's disk")
    max_upload: Size = Field(
        100 * 2**20, ge=1, le=2**30, description="Largest file that a caller may upload with `POST /files`"
    )
