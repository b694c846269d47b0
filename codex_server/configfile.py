"""``codex.toml`` in the current folder: the settings that are written down."""

import tomllib
from pathlib import Path
from typing import Any

from codex_server.encodings import decode_text
from codex_server.files import read_file

CONFIG_FILE = "codex.toml"


def read_config() -> dict[str, Any]:
    """What the file sets; nothing when there is no file.

    A byte order mark, which some editors put in front, is no part of it. Raises ``OSError`` when it cannot be read,
    ``ValueError`` when it is not TOML in UTF-8.
    """
    return tomllib.loads(decode_text(read_file(Path(CONFIG_FILE)) or b""))
