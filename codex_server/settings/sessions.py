"""Sessions: how many there may be, how long they live, and what they take."""

import os

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from codex_server.settings.field_types import Size


def _half_of_the_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class SessionSettings(BaseModel):
    """Sessions: how many there may be, how long they live, and what they take."""

    max_sessions: int = Field(200, ge=0, le=100_000, description="Sessions that are open at once; then 503; 0: none")
    max_sessions_caller: int = Field(20, ge=0, le=100_000, description="Sessions of one caller at once; then 503")
    max_session_idle_seconds: float = Field(
        3600.0, ge=1, le=30 * 86_400, description="Longest idle time (`ttl_seconds`) that a session may ask for"
    )
    session_idle_seconds: float = Field(
        default_factory=lambda known: float(min(900.0, known.get("max_session_idle_seconds", 900.0))),
        ge=1,
        description="How long a session that nobody uses lives when it asks for no other time; by default 900, or a "
        "lower max_session_idle_seconds",
    )
    session_lifetime_seconds: float = Field(
        8 * 3600.0, ge=1, le=30 * 86_400, description="How long a session lives at most, however much it is used"
    )
    checkpoint_seconds: float = Field(
        7 * 86_400.0,
        ge=1,
        le=365 * 86_400,
        description="How long a checkpoint of a session is kept; it counts as other files that are kept",
    )
    sessions_memory: Size = Field(
        default_factory=_half_of_the_memory,
        ge=16 * 2**20,
        description="Memory limits of all open sessions together; by default half of this machine's memory. "
        "One session is always let in",
    )

    @field_validator("session_idle_seconds")
    @classmethod
    def _within_the_longest(cls, value: float, known: ValidationInfo) -> float:
        longest = known.data.get("max_session_idle_seconds", value)
        if value > longest:
            raise ValueError(
                f"{value:g} is above CODEX_MAX_SESSION_IDLE_SECONDS ({longest:g}): lower it too, to {longest:g}"
            )
        return value
