"""The shapes of named workspaces."""

from typing import Literal

from pydantic import BaseModel, Field


class WorkspaceEntry(BaseModel):
    """A folder that the operator has named."""

    name: str = Field(description="Its name, for `workspace` of POST /sessions")
    mode: Literal["read-write", "read-only"] = Field(description="Whether sessions may write to it")


class WorkspacesResponse(BaseModel):
    """The folders that sessions may work in."""

    workspaces: list[WorkspaceEntry]


class WorkspaceLanguage(BaseModel):
    """A language of a project, by the endings of its files."""

    name: str
    files: int
    bytes: int


class WorkspaceGuide(BaseModel):
    """A text in which a project says what it is, or how to work on it."""

    path: str
    head: str = Field(description="Its first 4,000 characters")
    truncated: bool


class WorkspaceChange(BaseModel):
    """A tracked file that differs from the index."""

    path: str
    change: Literal["modified", "deleted"]


class WorkspaceGit(BaseModel):
    """The state of a git work tree."""

    branch: str | None = Field(description="Null where no branch is checked out")
    commit: str | None = Field(description="Null before the first commit")
    changed: list[WorkspaceChange] | None = Field(
        description="Tracked files that differ from the index; null where the index is of a kind that is not read"
    )
    truncated: bool


class WorkspaceFacts(BaseModel):
    """What is in a workspace."""

    files: int = Field(description="How many files there are, without what is installed or generated")
    truncated: bool = Field(description="Whether there are more files than were looked at")
    languages: list[WorkspaceLanguage]
    guides: list[WorkspaceGuide]
    git: WorkspaceGit | None = Field(description="Null where it is no git work tree")
    tree: list[str] = Field(description="The paths that matter most, as many as fit; a folder ends with a slash")
    tree_truncated: bool


class WorkspaceOverview(WorkspaceEntry, WorkspaceFacts):
    """A workspace at one glance."""
