"""How programs are isolated, what they find, and how many run at once."""

import os
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator
from pydantic_settings import NoDecode

from codex_server.settings.field_types import Folder

_FIRST_FREE_ID = 1000
"""Lower ids belong to system accounts, host root among them."""
_FEWEST_GUEST_IDS = 20_000


def _parse_pool_sizes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(sign and size.strip().isdigit() for _, sign, size in pairs):
        raise ValueError("write pairs of pool and number, for example python=4,python-data=2,javascript=2")
    return {name.strip(): int(size) for name, _, size in pairs}


class SandboxSettings(BaseModel):
    """How programs are isolated, what they find, and how many run at once."""

    backend: Literal["auto", "embedded", "docker"] = Field(
        "auto", description="Sandbox backend; auto: embedded where this host allows it, else docker"
    )
    min_isolation: Literal["confined", "namespaces", "full"] = Field(
        "namespaces", description="Refuse to start below this isolation level"
    )
    guest_ids: str = Field(
        "1048576:65536",
        pattern=r"^\d+:\d+$",
        description="As root: first host id and number of ids that sandboxes may use (no account may own them)",
    )
    docker_host: str | None = Field(
        None, description="docker: the engine's socket, such as unix:///var/run/docker.sock; by default DOCKER_HOST's"
    )
    docker_runtime: str | None = Field(
        None, pattern=r"^[\w.-]+$", description="docker: runtime of the sandboxes, such as runsc (gVisor)"
    )
    docker_image: str = Field(
        "codex-runner-{runner}:{version}", description="docker: name and tag of the runners' images"
    )
    runners_dir: Folder | None = Field(None, description="Folder with additional runners")
    data_packages: bool = Field(
        True, description="Give programs the packages that their runner names (numpy, pandas, ...); see the README"
    )
    packages_dir: Folder | None = Field(
        None, description="Folder that the data packages are installed in; by default packages in state_dir"
    )
    save_figures: bool = Field(
        True, description="Return the matplotlib figures that a Python program shows or leaves open at its end"
    )
    max_concurrency: int = Field(
        default_factory=lambda: max(4, 2 * len(os.sched_getaffinity(0))),
        ge=1,
        le=1000,
        description="Executions at once; by default twice the number of CPUs, at least 4",
    )
    queue_length: int = Field(64, ge=0, le=100_000, description="Executions that may wait for a place; then 503")
    queue_seconds: float = Field(10.0, gt=0, description="Longest wait for a place; then 503")
    pool_sizes: Annotated[dict[str, int], NoDecode] = Field(
        default_factory=lambda: {"python": 4, "python-data": 2, "javascript": 2},
        description="Armed sandboxes kept ready in each pool; a pool that is not named gets 1, 0 switches it off "
        "(each sandbox is then made on demand); python serves every language without an agent, "
        "python-data Python programs that import data packages, javascript TypeScript too unless typescript is named",
    )
    drain_seconds: float = Field(30.0, ge=0, description="On SIGTERM: how long running executions may take to finish")

    @field_validator("guest_ids")
    @classmethod
    def _guest_ids(cls, value: str) -> str:
        first, count = map(int, value.split(":"))
        if first < _FIRST_FREE_ID or count < _FEWEST_GUEST_IDS or first + count > 2**32 - 1:
            raise ValueError(
                f"{value!r} is not a range for guests: write first:count with at least {_FEWEST_GUEST_IDS} ids "
                f"from {_FIRST_FREE_ID} up, such as 1048576:65536"
            )
        return value

    @field_validator("pool_sizes", mode="before")
    @classmethod
    def _pool_sizes(cls, value: Any) -> Any:
        return _parse_pool_sizes(value)

    @field_validator("pool_sizes")
    @classmethod
    def _pool_size_range(cls, value: dict[str, int]) -> dict[str, int]:
        if any(not 0 <= size <= 256 for size in value.values()):
            raise ValueError("each pool holds 0 to 256 sandboxes")
        return value

    @field_validator("docker_image")
    @classmethod
    def _docker_image(cls, value: str) -> str:
        try:
            named = value.format(runner="python", version="1")
        except (LookupError, ValueError):
            named = ""
        if "{runner}" not in value or not re.fullmatch(r"[a-z0-9][\w./:-]*", named):
            raise ValueError(f"{value!r} is not an image name; write for example codex-runner-{{runner}}:{{version}}")
        return value
