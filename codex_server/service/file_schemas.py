"""The shapes of operations on the files of a session."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from codex_server.paths import relative_path

_REQUEST = ConfigDict(extra="forbid", strict=True, frozen=True)
Tag = Annotated[str, Field(pattern=r"^[0-9a-z-]{1,120}$")]
"""An entity tag. It stands in a header, and was made where a guest may reach: nothing else may be in it."""

WorkspacePath = Annotated[str, AfterValidator(relative_path)]
"""A path as callers write it: in the workspace's other names too, as in the files of an execution."""
FolderPath = Annotated[WorkspacePath, AfterValidator(lambda path: path.removesuffix("/"))]
"""The same, of what may be a folder."""


class FileEntry(BaseModel):
    """Something in a workspace."""

    path: str = Field(description="Relative to the workspace; bytes that are not UTF-8 are U+FFFD")
    type: Literal["file", "folder", "link", "other"] = Field(description="What it is; links are not followed")
    size: int = Field(ge=0, description="Size in bytes")
    modified: float = Field(allow_inf_nan=False, description="When it was changed, in seconds since 1970")


class FileTree(BaseModel):
    """A page of what is in a workspace, in the order of the paths."""

    entries: list[FileEntry]
    next: str | None = Field(default=None, description="`cursor` of the next page, or null")


class FileFacts(FileEntry):
    """A file as it is after an operation."""

    etag: Tag | None = Field(default=None, description="Its entity tag, for `If-Match`; null for what is no file")


class UploadedFiles(BaseModel):
    """Several files that were uploaded at once."""

    files: list[FileFacts] = Field(description="As they are now, in the order of the form")


class ReadRequest(BaseModel):
    """Texts to read."""

    model_config = _REQUEST

    paths: list[WorkspacePath] = Field(
        min_length=1,
        max_length=100,
        description="Files, each whole or a range of its lines",
        examples=[["a.py:10-20", "README.md"]],
    )
    line_numbers: bool = Field(False, description="Put the number of each line in front of it")


class FileError(BaseModel):
    """Why a file was not read."""

    code: str
    detail: str


class TextFile(BaseModel):
    """A text, or why it was not read."""

    path: str
    content: str | None = Field(description="The lines that were asked for, or null")
    error: FileError | None = None
    lines: tuple[int, int] | None = Field(
        default=None, description="Numbers of the first and the last line of `content`"
    )
    total_lines: int | None = Field(default=None, description="How many lines the file has")
    etag: Tag | None = Field(default=None, description="The file's entity tag, for `If-Match`")

    @property
    def is_whole(self) -> bool:
        """Whether ``content`` is all of the file."""
        return self.lines == (1, self.total_lines) or self.total_lines == 0


class ReadResponse(BaseModel):
    """The texts, in the order of the request."""

    files: list[TextFile]


class EditBlock(BaseModel):
    """One replacement."""

    model_config = _REQUEST

    search: str = Field(min_length=1, description="Lines that stand exactly once in the file")
    replace: str = Field(description="What is to stand there instead")


class EditRequest(BaseModel):
    """Replacements in a file: all of them, one after the other, or none."""

    model_config = _REQUEST

    path: WorkspacePath
    edits: list[EditBlock] = Field(min_length=1, max_length=100)
    if_match: str | None = Field(None, description="Only if the file has this entity tag")


class AppliedEdit(BaseModel):
    """Where and how a replacement was made."""

    line: int
    match: Literal["exact", "trailing-whitespace", "indentation"] = Field(
        description="exact; or found without regard to white space at line ends, or to indentation, which was kept"
    )


class EditResponse(BaseModel):
    """What became of the edits."""

    path: str
    etag: Tag
    applied: list[AppliedEdit]
    warnings: list[str] = Field(description="Syntax errors of the result, for Python and JSON")


class SearchRequest(BaseModel):
    """A search for lines."""

    model_config = _REQUEST

    pattern: str = Field(min_length=1, max_length=1000, description="A regular expression")
    path: FolderPath = Field("", description="Folder to search in; by default all of the workspace")
    glob: str | None = Field(
        None, description="Which files, by name, or by path where it has a slash", examples=["*.py"]
    )
    ignore_case: bool = False
    max_results: int = Field(200, ge=1, le=1000)


class SearchMatch(BaseModel):
    """A line that matches."""

    path: str
    line: int
    text: str


class SearchResponse(BaseModel):
    """Lines that match, by path and number."""

    matches: list[SearchMatch]
    truncated: bool = Field(description="Whether there are more")
    engine: Literal["ripgrep", "python"] = Field(
        description="ripgrep honours .gitignore; python, where the sandbox has none, leaves out .git and node_modules"
    )


class TransferRequest(BaseModel):
    """Something to copy or move."""

    model_config = _REQUEST

    path: FolderPath
    to: WorkspacePath
    overwrite: bool = Field(False, description="Replace a file that is at `to`")


class DeleteRequest(BaseModel):
    """Something to remove."""

    model_config = _REQUEST

    path: FolderPath
    recursive: bool = Field(False, description="Remove a folder with all that is in it")


class CombineRequest(BaseModel):
    """Files to write one after the other into one."""

    model_config = _REQUEST

    paths: list[WorkspacePath] = Field(min_length=1, max_length=1000)
    to: WorkspacePath
    headers: bool = Field(False, description="Put a line with its path in front of each")
    overwrite: bool = Field(False, description="Replace a file that is at `to`")


class ArchiveRequest(BaseModel):
    """Files and folders to pack into an archive, which is written into the workspace."""

    model_config = _REQUEST

    paths: list[FolderPath] = Field(default=[], max_length=1000, description="By default all of the workspace")
    to: WorkspacePath = Field(description="Path of the archive", examples=["out/results.zip"])
    format: Literal["zip", "tar.gz"] = "zip"
    overwrite: bool = Field(False, description="Replace a file that is at `to`")


class ExtractRequest(BaseModel):
    """An archive (zip, tar) to take apart."""

    model_config = _REQUEST

    path: WorkspacePath
    to: FolderPath = Field("", description="Folder for its files; by default the workspace itself")
    overwrite: bool = Field(False, description="Replace files that are there")


class LeftOutEntry(BaseModel):
    """An entry of an archive that was not written."""

    path: str
    reason: str


class ExtractResponse(BaseModel):
    """What was taken out of an archive."""

    files: list[str]
    left_out: list[LeftOutEntry]


FILE_REQUESTS: tuple[type[BaseModel], ...] = (
    ReadRequest,
    EditRequest,
    SearchRequest,
    TransferRequest,
    DeleteRequest,
    CombineRequest,
    ArchiveRequest,
    ExtractRequest,
)
"""The bodies of the operations."""
