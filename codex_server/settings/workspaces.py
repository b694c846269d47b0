"""The operator's folders that sessions may work in, by their names: how they are written."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator
from pydantic_settings import NoDecode

READ_ONLY = ":ro"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MOST = 100
_EXAMPLE = "notes=~/notes,data=/srv/data:ro"


@dataclass(frozen=True, slots=True)
class WorkspaceFolder:
    """A folder, and whether sessions may only read it."""

    folder: Path
    read_only: bool

    def __str__(self) -> str:
        return f"{self.folder}{READ_ONLY if self.read_only else ''}"


def parse_folder(written: str) -> WorkspaceFolder:
    """``~/notes``, or ``/srv/data:ro`` for one that is only read. Raises ``ValueError``."""
    path = Path(written.strip().removesuffix(READ_ONLY)).expanduser()
    if not written.strip() or not path.is_absolute():
        raise ValueError(f"{written!r} is not an absolute path; write for example {_EXAMPLE}")
    return WorkspaceFolder(path, written.strip().endswith(READ_ONLY))


def check_name(name: str) -> str:
    """``name``. Raises ``ValueError`` unless it can be a workspace's."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a workspace's name; write at most 64 small letters, digits, dots, dashes and "
            "underscores, with a letter or a digit first"
        )
    return name


def check_apart(folders: Mapping[str, WorkspaceFolder], state_dir: Path) -> None:
    """INVARIANT: no session sees the state folder, where tokens lie. Raises ``ValueError`` where one would."""
    state = state_dir.absolute().resolve()
    for name, each in folders.items():
        folder = each.folder.resolve()
        if state.is_relative_to(folder) or folder.is_relative_to(state):
            raise ValueError(
                f"the workspace {name!r} ({each.folder}) and the state folder ({state_dir}) lie within one another, so "
                "programs could read tokens; name a folder beside it"
            )


class WorkspaceSettings(BaseModel):
    """The operator's folders that sessions may work in."""

    workspaces: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        description="Folders that sessions may have as their workspace, by name, such as "
        f"`{_EXAMPLE}`; with `:ro` they are only read",
    )

    @field_validator("workspaces", mode="before")
    @classmethod
    def _workspaces(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return dict(_pairs(value))

    @field_validator("workspaces")
    @classmethod
    def _workspace_folders(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) > _MOST:
            raise ValueError(f"there may be {_MOST} workspaces at most")
        return {check_name(name): str(parse_folder(folder)) for name, folder in value.items()}

    @property
    def workspace_folders(self) -> dict[str, WorkspaceFolder]:
        """``workspaces``, parsed."""
        return {name: parse_folder(folder) for name, folder in self.workspaces.items()}


def _pairs(value: str) -> Iterator[tuple[str, str]]:
    for part in filter(str.strip, value.split(",")):
        name, sign, folder = part.partition("=")
        if not sign:
            raise ValueError(f"{part!r} has no folder; write for example {_EXAMPLE}")
        yield name.strip(), folder.strip()
