"""Responses for a model: each thing once, and nothing that it cannot use. What there is not is left out, never null."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from codex_server.model import Status
from codex_server.service.cell_results import PLAIN
from codex_server.service.schemas import ExecuteResponse, HealthResponse, LanguagesResponse, LinkedFile, ResponseFile
from codex_server.service.session_schemas import SessionExecuteResponse
from codex_server.service.truncation import Form


class _Lean(BaseModel):
    """Takes no memory before it is used."""

    model_config = ConfigDict(defer_build=True)


class LeanFile(_Lean):
    """A file that the program left in the workspace."""

    path: str = Field(description="Path inside the workspace")
    media_type: str = Field(description="Guessed from the name")
    content: str | None = Field(None, description="The content, in the form that `encoding` names")
    encoding: Literal["utf-8", "base64"] | None = Field(None, description="utf-8 for text, else base64")
    url: str | None = Field(None, description="Where to fetch a large file for a while; show this link to the user")


class LeanSkippedFile(_Lean):
    """A file in the workspace that is not handed back."""

    path: str = Field(description="Path inside the workspace; `*` stands for many that are not listed")
    reason: str = Field(description="Why it is not handed back")


class LeanOutcome(_Lean):
    """What became of the program."""

    status: Status = Field(description="What became of it; only `succeeded` says that all went well")
    exit_code: int = Field(description="Process exit code; 128 + signal when a signal ended it")
    output: str = Field(description="Standard output; a long one has its head and tail, and a mark between")
    error: str | None = Field(None, description="What went wrong, then standard error; left out when there is neither")
    result: str | None = Field(None, description="In a session: the value of the last expression, as text")
    execution_time: float = Field(description="Wall seconds of the program alone")
    files: list[LeanFile] | None = Field(None, description="Files that the program created or changed")
    skipped_files: list[LeanSkippedFile] | None = Field(None, description="What else it left, and why it is not here")


class LeanLanguage(_Lean):
    """A language that can be run now."""

    name: str = Field(description="Name to use in a request")
    version: str = Field(description="Version of the interpreter")
    packages: list[str] | None = Field(None, description="Packages that programs may import, with their versions")
    packages_of: str | None = Field(None, description="The language in this list whose packages it shares")


class LeanLanguages(_Lean):
    """Every language that can be run now."""

    languages: list[LeanLanguage]


class LeanHealth(_Lean):
    """How the server is."""

    status: Literal["healthy", "degraded", "draining"] = Field(
        description="degraded: executions may wait or fail; draining: it is stopping"
    )
    version: str = Field(description="Version of the server")
    isolation: Literal["confined", "namespaces", "full"] = Field(description="How strongly programs are kept in")


def encode(response: BaseModel) -> str:
    """The JSON that goes out."""
    return response.model_dump_json(exclude_none=True)


def lean_languages(whole: LanguagesResponse) -> LeanLanguages:
    """Those that are available; packages that two of them share stand with the first."""
    owners: dict[tuple[str, ...], str] = {}
    rows = []
    for language in whole.languages:
        if not language.available:
            continue
        row = LeanLanguage(name=language.name, version=language.version or "")
        if packages := [f"{package.name} {package.version}" for package in language.packages]:
            first = owners.setdefault(tuple(packages), language.name)
            if first == language.name:
                row.packages = packages
            else:
                row.packages_of = first
        rows.append(row)
    return LeanLanguages(languages=rows)


def lean_health(whole: HealthResponse) -> LeanHealth:
    """How the server is, without what `lean_languages` says."""
    return LeanHealth(status=whole.status, version=whole.version, isolation=whole.isolation)


def lean_outcome(response: ExecuteResponse) -> LeanOutcome:
    """What became of the program, each stream once."""
    files = [_lean_file(file) for file in response.files]
    return LeanOutcome(
        status=response.status,
        exit_code=response.exit_code,
        output=response.output,
        error=response.error,
        result=_lean_result(response),
        execution_time=response.execution_time,
        files=files or None,
        skipped_files=[LeanSkippedFile(path=file.path, reason=file.reason) for file in response.skipped_files] or None,
    )


def _lean_result(response: ExecuteResponse) -> str | None:
    found = (response.result or {}) if isinstance(response, SessionExecuteResponse) else {}
    text = found.get(PLAIN)
    return text if isinstance(text, str) else None


def _lean_file(file: ResponseFile | LinkedFile) -> LeanFile:
    if isinstance(file, LinkedFile):
        return LeanFile(path=file.path, media_type=file.media_type, url=file.url)
    return LeanFile(path=file.path, media_type=file.media_type, content=file.content, encoding=file.encoding)


LEAN = Form(lambda response: encode(lean_outcome(response)), copies=1, slack=48)
"""The slack is also for the names of fields that are left out while they are empty."""
