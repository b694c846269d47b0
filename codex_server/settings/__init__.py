"""The settings: read once, from flags, the environment, ``codex.toml`` and the defaults."""

from codex_server.settings.field_types import is_size
from codex_server.settings.listening import default_state_dir
from codex_server.settings.loading import load_settings, suggest_settings
from codex_server.settings.settings import ENV_PREFIX, Settings

__all__ = ["ENV_PREFIX", "Settings", "default_state_dir", "is_size", "load_settings", "suggest_settings"]
