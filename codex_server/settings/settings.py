"""The settings: read once from flags, the environment, ``codex.toml`` and the defaults, in this order; then frozen.

Each field is one row of the table in ``docs/settings.md`` (a test compares them); ``CODEX_`` and the field's name in
capitals is its environment variable, the name itself its key in ``codex.toml``.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from codex_server.configfile import read_config
from codex_server.limits import Limits
from codex_server.settings.ceilings import CeilingSettings
from codex_server.settings.listening import ListeningSettings
from codex_server.settings.retention import RetentionSettings
from codex_server.settings.sandboxing import SandboxSettings
from codex_server.settings.sessions import SessionSettings
from codex_server.settings.workspaces import WorkspaceSettings, check_apart

ENV_PREFIX = "CODEX_"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(
    WorkspaceSettings,
    SessionSettings,
    RetentionSettings,
    CeilingSettings,
    SandboxSettings,
    ListeningSettings,
    BaseSettings,
):
    """Everything an operator can set; ``codex-server config`` and the documents show each description."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least serious level to log")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json: one object a line; console: for people; auto: console on a terminal"
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.allow_no_auth and self.host not in _LOOPBACK:
            raise ValueError(
                f"allow_no_auth with host {self.host} would let anyone who reaches this machine run code; "
                "listen on 127.0.0.1, or use tokens"
            )
        check_apart(self.workspace_folders, self.state_dir)
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
    def background_ceilings(self) -> Limits:
        """The same for a program that runs in the background."""
        wall = max(self.max_timeout, self.max_background_timeout)
        return replace(self.ceilings, wall_seconds=wall, cpu_seconds=max(self.max_cpu_seconds, wall))

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
