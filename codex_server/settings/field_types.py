"""Types of settings that a person writes in more than one way: ``64MiB`` for a number, ``~`` for a home folder."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator
from pydantic.fields import FieldInfo

from codex_server.units import parse_size

Size = Annotated[int, BeforeValidator(lambda value: parse_size(value) if isinstance(value, str) else value)]
Folder = Annotated[Path, AfterValidator(Path.expanduser)]


def is_size(field: FieldInfo) -> bool:
    """Return whether the setting is a number of bytes that may be written as ``64MiB``."""
    return any(part in Size.__metadata__ for part in field.metadata)  # type: ignore[attr-defined]
