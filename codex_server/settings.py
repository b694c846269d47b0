"""The settings: read once from flags, the environment, ``codex.toml`` and the defaults, in this order; then frozen.

Each field is one row of the table in ``docs/settings.md`` (a test compares them); ``CODEX_`` and the field's name in
capitals is its environment variable, the name itself its key in ``codex.toml``.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import limits as ratelimits
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from codex_server.configfile import CONFIG_FILE, read_config
from codex_server.errors import SettingsInvalid
from codex_server.limits import Limits
from codex_server.networks import Network, bare_host, parse_networks
from codex_server.tokentext import bare_token
from codex_server.units import format_size, parse_size

ENV_PREFIX = "CODEX_"
_FIRST_FREE_ID = 1000
"""Lower ids belong to system accounts, host root among them."""
_FEWEST_GUEST_IDS = 20_000
_A_CONSEQUENCE = "default_factory_not_called"
"""Pydantic's error type for a default that depends on another invalid setting."""
_IN_WORDS = {
    "greater_than": "it must be above {gt}",
    "greater_than_equal": "it must be at least {ge}",
    "less_than_equal": "it must be at most {le}",
    "int_parsing": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "int_type": "it must be a whole number",
    "float_parsing": "it must be a number",
    "float_type": "it must be a number",
    "bool_parsing": "it must be true or false",
    "bool_type": "it must be true or false",
    "literal_error": "it must be {expected}",
}
"""Messages for pydantic's error types; the others keep pydantic's own message."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


Size = Annotated[int, BeforeValidator(lambda value: parse_size(value) if isinstance(value, str) else value)]


def default_state_dir() -> Path:
    """``$XDG_STATE_HOME/codex-server``, by default below ``~/.local/state``."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "codex-server"


def _default_timeout(settings: dict[str, Any]) -> float:
    """Return 10 s or ``max_timeout``, which is validated earlier, whichever is lower."""
    return float(min(10.0, settings.get("max_timeout", 10.0)))


def _parse_pool_sizes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(sign and size.strip().isdigit() for _, sign, size in pairs):
        raise ValueError("write pairs of pool and number, for example python=4,python-data=2,javascript=2")
    return {name.strip(): int(size) for name, _, size in pairs}


class Settings(BaseSettings):
    """Everything an operator can set; ``codex-server config`` and the documents show each description."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    host: Annotated[str, AfterValidator(bare_host)] = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    api_token: SecretStr | None = Field(
        None, description="The one token to accept, in place of the stored ones; at least 16 characters"
    )
    allow_no_auth: bool = Field(False, description="Serve without any token; refused unless the address is loopback")
    state_dir: Path = Field(
        default_factory=default_state_dir, description="Folder for what must survive a restart: tokens, data packages"
    )
    public_url: str | None = Field(
        None, description="Address that callers use, for the start message and the OpenAPI document's servers"
    )

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
    runners_dir: Path | None = Field(None, description="Folder with additional runners")
    data_packages: bool = Field(
        True, description="Give programs the packages that their runner names (numpy, pandas, ...); see the README"
    )
    packages_dir: Path | None = Field(
        None, description="Folder that the data packages are installed in; by default packages in state_dir"
    )
    save_figures: bool = Field(
        True, description="Return the matplotlib figures that a Python program shows or leaves open at its end"
    )

    trusted_proxies: str = Field(
        "", description="Reverse proxies (addresses or networks, with commas) whose X-Forwarded-For is trusted"
    )
    rate_limit: str = Field(
        "60/minute",
        description="Requests to /execute for each token, rejected and replayed ones included, in slowapi's syntax; "
        "empty for no limit",
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

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least serious level to log")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json: one object a line; console: for people; auto: console on a terminal"
    )

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

    @field_validator("state_dir", "runners_dir", "packages_dir")
    @classmethod
    def _home_expanded(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value else value

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

    @field_validator("default_timeout")
    @classmethod
    def _within_the_largest(cls, value: float, known: ValidationInfo) -> float:
        largest = known.data.get("max_timeout", value)
        if value > largest:
            raise ValueError(f"{value:g} is above CODEX_MAX_TIMEOUT ({largest:g}): lower it too, to {largest:g}")
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

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str | None) -> str | None:
        if value and not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
            raise ValueError(f"{value!r} is not an address; write it with https://, such as https://code.example.org")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _trusted_proxies(cls, value: str) -> str:
        try:
            parse_networks(value)
        except ValueError as error:
            raise ValueError(f"{error}: write addresses or networks, such as 127.0.0.1,10.0.0.0/8") from None
        return value

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """``trusted_proxies``, parsed."""
        return parse_networks(self.trusted_proxies)

    @field_validator("rate_limit")
    @classmethod
    def _rate_limit(cls, value: str) -> str:
        if value:
            try:
                ratelimits.parse_many(value)
            except ValueError:
                raise ValueError(
                    f"{value!r} is not a rate limit; write for example 60/minute or 5/second;1000/day"
                ) from None
        return value

    @field_validator("api_token")
    @classmethod
    def _api_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        if len(token := bare_token(value.get_secret_value())) < 16:
            raise ValueError("a token needs at least 16 characters; leave it unset and the first start makes one")
        return SecretStr(token)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.allow_no_auth and self.host not in _LOOPBACK:
            raise ValueError(
                f"allow_no_auth with host {self.host} would let anyone who reaches this machine run code; "
                "listen on 127.0.0.1, or use tokens"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then ``codex.toml`` in the current folder."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, read_config())

    @property
    def packages_root(self) -> Path | None:
        """Where data packages are installed; None when they are switched off."""
        if not self.data_packages:
            return None
        return (self.packages_dir or self.state_dir / "packages").absolute()

    @property
    def ceilings(self) -> Limits:
        """The limits that a request can only tighten; the default of its wall time is below the ceiling."""
        return Limits(
            wall_seconds=self.max_timeout,
            cpu_seconds=self.max_cpu_seconds,
            memory_bytes=self.max_memory,
            processes=self.max_processes,
            output_bytes=self.max_output,
            file_bytes=self.max_file_size,
        )


def load_settings(flags: Mapping[str, object] | None = None, written: Mapping[str, str] | None = None) -> Settings:
    """Return the effective settings; ``flags`` (from the command line) take precedence over everything else.

    ``written`` maps a setting to its own flag, ``--port`` for example; the others came by ``--set``. Raises
    ``SettingsInvalid`` with one message that names every invalid setting by the source of its value.
    """
    given = {name: f"--set {name}" for name in flags or {}} | dict(written or {})
    try:
        return Settings(**dict(flags or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        problems = [problem for problem in error.errors() if problem["type"] != _A_CONSEQUENCE]
        lines = [f"  {_explain(problem, given)}" for problem in problems]
        raise SettingsInvalid("\n".join(["these settings are wrong:", *lines])) from None
    except OSError as error:
        remedy = "put a file there that this account may read, or remove it; without it the defaults hold"
        raise SettingsInvalid(f"{CONFIG_FILE} cannot be read ({error.strerror}): {remedy}") from None
    except ValueError as error:
        raise SettingsInvalid(f"{CONFIG_FILE} cannot be read: {error}") from None


def suggest_settings(name: str, prefix: str = "") -> str:
    """Return a hint for the unknown setting ``name``: the nearest ones, as variables when ``prefix`` is given."""
    last_word = name.rpartition("_")[2]
    related = [known for known in Settings.model_fields if last_word in known.split("_")]
    very_near, near = (difflib.get_close_matches(name, Settings.model_fields, 1, cutoff) for cutoff in (0.8, 0.6))
    shown = [prefix + known.upper() if prefix else known for known in very_near or related[:2] or near]
    return f"did you mean {' or '.join(shown)}?" if shown else "`codex-server config` lists them"


def is_size(field: FieldInfo) -> bool:
    """Return whether the setting is a number of bytes that may be written as ``64MiB``."""
    return any(part in Size.__metadata__ for part in field.metadata)  # type: ignore[attr-defined]


def _explain(problem: Any, given: Mapping[str, str]) -> str:
    name, *inner = map(str, problem["loc"] or [""])
    if problem["type"] == "extra_forbidden":
        return f"{CONFIG_FILE}, {name}: there is no such setting; {suggest_settings(name)}"
    if not name:
        return str(problem["msg"]).removeprefix("Value error, ")
    return ": ".join([_where(name, given, problem), *inner, _what(name, problem)])


def _where(name: str, given: Mapping[str, str], problem: Any) -> str:
    """Return the flag, variable or file key that the value comes from, with the value unless the message has it."""
    in_message = problem["type"] == "value_error" or name == "api_token" or len(problem["loc"]) > 1
    value = "" if in_message else _shown(name, problem["input"])
    variable = ENV_PREFIX + name.upper()
    if name in given:
        sign = "=" if given[name].startswith("--set ") else " "
        return given[name] + (sign + value if value else "")
    if variable in map(str.upper, os.environ):
        return f"{variable}={value}" if value else variable
    return f"{CONFIG_FILE}, {name}"


def _what(name: str, problem: Any) -> str:
    words = _IN_WORDS.get(problem["type"])
    if words is None:
        return str(problem["msg"]).removeprefix("Value error, ")
    return words.format(**{key: _shown(name, value) for key, value in problem.get("ctx", {}).items()})


def _shown(name: str, value: object) -> str:
    if isinstance(value, int) and is_size(Settings.model_fields[name]):
        return format_size(value).replace(" ", "")
    return f"{value:g}" if isinstance(value, float) else str(value)
