"""What one request and its program may use at most."""

from typing import Any

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from codex_server.settings.field_types import Size


def _default_timeout(settings: dict[str, Any]) -> float:
    """Return 10 s or ``max_timeout``, which is validated earlier, whichever is lower."""
    return float(min(10.0, settings.get("max_timeout", 10.0)))


class CeilingSettings(BaseModel):
    """What one request and its program may use at most."""

    max_timeout: float = Field(
        30.0, ge=1, le=86_400, description="Largest timeout that a request may ask for, in seconds"
    )
    default_timeout: float = Field(
        default_factory=_default_timeout,
        ge=1,
        description="Wall seconds of a program when the request names none; by default 10, or a lower max_timeout",
    )
    max_cpu_seconds: float = Field(30.0, gt=0, description="CPU seconds of a program, all its processes together")
    max_memory: Size = Field(512 * 2**20, ge=16 * 2**20, description="Memory of a program, its files included")
    max_processes: int = Field(64, ge=1, le=4096, description="Processes and threads of a program")
    max_output: Size = Field(64 * 2**10, ge=64, description="Bytes kept of each output stream, head and tail")
    max_flood: Size = Field(
        64 * 2**20, ge=2**16, description="Bytes that a program may print in total before it is stopped"
    )
    max_workspace: Size = Field(64 * 2**20, ge=2**20, description="Size of the workspace, and of /tmp")
    max_file_size: Size = Field(
        default_factory=lambda known: known["max_workspace"],
        ge=2**10,
        description="Largest file that a program may write; by default as large as the workspace",
    )
    max_code: Size = Field(2**20, ge=1, description="Largest program, in bytes of UTF-8")
    max_body: Size = Field(16 * 2**20, ge=2**10, description="Largest request body")
    receive_seconds: float = Field(
        20.0, gt=0, description="Longest wait for a request's header, and then for its body; then 408"
    )
    keep_alive_seconds: float = Field(
        75.0, gt=0, le=86_400, description="How long an idle connection is kept; a proxy should close its own sooner"
    )
    max_response: int = Field(
        100_000,
        ge=10_000,
        description="Largest response to /execute, in characters (ChatGPT refuses more than 100,000)",
    )
    max_inline_file: Size = Field(
        32 * 2**10, ge=0, description="Largest file of the workspace that is returned in the response"
    )

    @field_validator("default_timeout")
    @classmethod
    def _within_the_largest(cls, value: float, known: ValidationInfo) -> float:
        largest = known.data.get("max_timeout", value)
        if value > largest:
            raise ValueError(f"{value:g} is above CODEX_MAX_TIMEOUT ({largest:g}): lower it too, to {largest:g}")
        return value
