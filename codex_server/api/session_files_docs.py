"""What the OpenAPI document says of the files of a session."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from codex_server.api.route_docs import BEARER, header, ok, problems
from codex_server.service.file_schemas import (
    AppliedEdit,
    ArchiveRequest,
    CombineRequest,
    DeleteRequest,
    EditBlock,
    EditRequest,
    EditResponse,
    ExtractRequest,
    ExtractResponse,
    FileFacts,
    FileTree,
    ReadRequest,
    ReadResponse,
    SearchMatch,
    SearchRequest,
    SearchResponse,
    TextFile,
    TransferRequest,
    UploadedFiles,
)

_ENTRY: dict[str, Any] = {"path": "data/in.csv", "type": "file", "size": 3, "modified": 1763726400.5}
_FACTS: dict[str, Any] = _ENTRY | {"etag": "9f86d081884c7d659a2feaa0c55ad015"}
_ETAG = {"ETag": header("Its entity tag, for `If-Match`", f'"{_FACTS["etag"]}"')}
_ALWAYS = ("unauthenticated", "forbidden", "invalid-request", "unknown-session", "session-ended", "sandbox-unavailable")
_ON_PATHS = (*_ALWAYS, "file-refused", "unknown-path", "file-conflict", "sandbox-fault")
_WITH_BODY = (*_ON_PATHS, "malformed-request", "request-timeout", "too-large", "unsupported-media-type", "rate-limited")
_BINARY: dict[str, Any] = {
    "application/octet-stream": {
        "schema": {"type": "string", "format": "binary"},
        "examples": {"csv": {"summary": "A CSV file", "value": "1,2\n"}},
    }
}


def _docs(
    identifier: str, summary: str, slugs: tuple[str, ...], response: dict[str, Any], **more: Any
) -> dict[str, Any]:
    extra = {"security": BEARER, **more.pop("extra", {})}
    found = {more.get("status_code", 200): response, **problems(*slugs)}
    return {
        "tags": ["session"],
        "operation_id": identifier,
        "summary": summary,
        "responses": found,
        "openapi_extra": extra,
        **more,
    }


def _operation(identifier: str, summary: str, example: BaseModel, result: BaseModel) -> dict[str, Any]:
    """One that takes a JSON object such as ``example``, and returns one such as ``result``."""
    request = type(example).__name__
    body = {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": f"#/components/schemas/{request}"},
                "examples": {"example": {"summary": summary, "value": example.model_dump(exclude_unset=True)}},
            }
        },
    }
    slugs = (*_WITH_BODY, *(("edit-refused", "file-changed") if request == "EditRequest" else ("storage-full",)))
    found = ok(summary, {"result": result.model_dump(mode="json")})
    return _docs(identifier, summary, slugs, found, response_model=type(result), extra={"requestBody": body})


_UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            **_BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "One file or several; a part of any other name counts if it has a file name",
                        }
                    },
                },
                "examples": {"csv": {"summary": "Two files", "value": {"file": ["1,2\n", "3,4\n"]}}},
            },
        },
    }
}
_TRANSFER = TransferRequest(path="data/in.csv", to="old/in.csv")
_FILE = FileFacts.model_validate(_FACTS)

DOCS: Mapping[str, dict[str, Any]] = {
    "list": _docs(
        "listSessionFiles",
        "List the files of a session",
        _ON_PATHS,
        ok("A page of what is in the workspace", {"page": {"entries": [_ENTRY], "next": None}}),
        response_model=FileTree,
    ),
    "upload": _docs(
        "uploadSessionFile",
        "Upload files into a session",
        (*_WITH_BODY, "storage-full"),
        ok("The file as it is now, or of several each", {"file": _FACTS, "files": {"files": [_FACTS]}}),
        status_code=201,
        response_model=FileFacts | UploadedFiles,
        extra=_UPLOAD_BODY,
    ),
    "fetch": _docs(
        "fetchSessionFile",
        "Fetch a file of a session",
        (*_ON_PATHS, "file-changed", "range-not-satisfiable"),
        {"description": "The content of the file", "content": _BINARY, "headers": _ETAG},
        response_class=Response,
    ),
    "write": _docs(
        "writeSessionFile",
        "Write a file of a session",
        (*_WITH_BODY, "file-changed", "storage-full"),
        ok("The file as it is now", {"file": _FACTS}) | {"headers": _ETAG},
        response_model=FileFacts,
        extra={"requestBody": {"required": True, "content": _BINARY}},
    ),
    "remove": _docs(
        "removeSessionFile",
        "Remove a file of a session",
        (*_ON_PATHS, "file-changed"),
        {"description": "It is gone"},
        status_code=204,
        response_class=Response,
    ),
    "read": _operation(
        "readSessionFiles",
        "Read texts of a session",
        ReadRequest(paths=["a.py:10-20"], line_numbers=True),
        ReadResponse(
            files=[
                TextFile(
                    path="a.py",
                    content="10  import os\n",
                    error=None,
                    lines=(10, 10),
                    total_lines=10,
                    etag=_FACTS["etag"],
                )
            ]
        ),
    ),
    "edit": _operation(
        "editSessionFile",
        "Edit a text of a session",
        EditRequest(path="a.py", edits=[EditBlock(search="x = 1\n", replace="x = 2\n")]),
        EditResponse(path="a.py", etag=_FACTS["etag"], applied=[AppliedEdit(line=3, match="exact")], warnings=[]),
    ),
    "search": _operation(
        "searchSessionFiles",
        "Search the files of a session",
        SearchRequest(pattern="def \\w+", glob="*.py"),
        SearchResponse(matches=[SearchMatch(path="a.py", line=3, text="def f():")], truncated=False, engine="python"),
    ),
    "copy": _operation("copySessionFile", "Copy a file", _TRANSFER, _FILE),
    "move": _operation("moveSessionFile", "Move a file", _TRANSFER, _FILE),
    "delete": _operation("deleteSessionFile", "Delete a file", DeleteRequest(path="data/in.csv"), _FILE),
    "combine": _operation(
        "combineSessionFiles", "Combine files", CombineRequest(paths=["a.txt", "b.txt"], to="all.txt"), _FILE
    ),
    "archive": _operation(
        "archiveSessionFiles", "Pack files into an archive", ArchiveRequest(paths=["data"], to="data.zip"), _FILE
    ),
    "extract": _operation(
        "extractSessionArchive",
        "Take an archive apart",
        ExtractRequest(path="data.zip", to="data"),
        ExtractResponse(files=["data/in.csv"], left_out=[]),
    ),
}
