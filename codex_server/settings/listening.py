"""Where the server listens, who may call, and how often."""

import os
import re
from pathlib import Path
from typing import Annotated

import limits as ratelimits
from pydantic import AfterValidator, BaseModel, Field, SecretStr, field_validator

from codex_server.networks import Network, bare_host, parse_networks
from codex_server.settings.field_types import Folder
from codex_server.tokentext import bare_token


def default_state_dir() -> Path:
    """``$XDG_STATE_HOME/codex-server``, by default below ``~/.local/state``."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "codex-server"


class ListeningSettings(BaseModel):
    """Where the server listens, who may call, and how often."""

    host: Annotated[str, AfterValidator(bare_host)] = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    api_token: SecretStr | None = Field(
        None, description="The one token to accept, in place of the stored ones; at least 16 characters"
    )
    allow_no_auth: bool = Field(False, description="Serve without any token; refused unless the address is loopback")
    state_dir: Folder = Field(
        default_factory=default_state_dir, description="Folder for what must survive a restart: tokens, data packages"
    )
    public_url: str | None = Field(
        None, description="Address that callers use, for the start message and the OpenAPI document's servers"
    )
    trusted_proxies: str = Field(
        "", description="Reverse proxies (addresses or networks, with commas) whose X-Forwarded-For is trusted"
    )
    rate_limit: str = Field(
        "60/minute",
        description="Requests to /execute for each token, rejected and replayed ones included, in slowapi's syntax; "
        "empty for no limit",
    )
    quota_executions: int | None = Field(
        None, ge=1, description="Executions of each token in a UTC day, then 429; replayed ones are not counted"
    )
    quota_cpu_seconds: float | None = Field(
        None, gt=0, description="CPU seconds of each token's programs in a UTC day, then 429"
    )

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
