"""Reads ``codex.toml`` in the current folder."""

import tomllib
from pathlib import Path
from typing import Any

from codex_server.encodings import decode_text
from codex_server.files import read_file

CONFIG_FILE = "codex.toml"


def read_config() -> dict[str, Any]:
    """Return the settings in the file; empty when there is no file.

    A byte order mark at the begin, which some editors write, is ignored. Raises ``OSError`` when it cannot be read,
    ``ValueError`` when it is not TOML in UTF-8.
    """
    return tomllib.loads(decode_text(read_file(Path(CONFIG_FILE)) or b""))
