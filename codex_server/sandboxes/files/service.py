"""The interpreter of operations: takes one after the other over its channel, and replies."""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from . import archives, content, edits, overview, search, texts, tree
from .problem import Problem, problem_of
from .workspace import Kernel, Workspace

_READY = b"R"
_FIELDS = 4
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the content of an operation comes from (a path), and where it goes to (a descriptor)."""

    source: str
    output: int = 1


Operation = Callable[[Workspace, Mapping[str, Any], Ends], dict[str, object]]
"""Takes the workspace, the request and its ends."""


def serve(channel: int, kernel: Kernel) -> NoReturn:
    """Carry out operations in the current folder until the channel is closed; never returns."""
    top = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    workspace = Workspace(top, kernel)
    signal.signal(signal.SIGINT, _cancel)
    os.write(channel, _READY)
    received = bytearray()
    while part := os.read(channel, _CHUNK):
        received += part
        while received.count(0) >= _FIELDS:
            stdin, _, _, request, rest = bytes(received).split(b"\0", _FIELDS)
            received = bytearray(rest)
            reply = {
                "exit_code": 0,
                "result": {"application/json": _cancellable(workspace, request, Ends(os.fsdecode(stdin)))},
            }
            content.write_all(channel, json.dumps(reply).encode() + b"\0")
    os._exit(0)


class _Cancelled(BaseException):
    """The operation is no longer wanted."""


_performing = False


def _cancel(number: int, frame: FrameType | None) -> None:
    """End the operation that runs, so that it removes what it has begun; between operations there is nothing to end."""
    if _performing:
        raise _Cancelled


def _cancellable(workspace: Workspace, request: bytes, ends: Ends) -> dict[str, object]:
    global _performing  # noqa: PLW0603 - of the process, as its signals are
    try:
        _performing = True
        return perform(workspace, request, ends)
    except _Cancelled:
        return Problem("cancelled", "the operation was cancelled").as_reply
    finally:
        _performing = False


def perform(workspace: Workspace, request: bytes, ends: Ends) -> dict[str, object]:
    """The reply to one request: ``ok`` with what the operation found, or ``error`` with why not."""
    try:
        fields = json.loads(request)
        operation = _OPERATIONS.get(fields["operation"])
        if operation is None:
            raise Problem("invalid", f"there is no operation {fields['operation']!r}")
        return {"ok": operation(workspace, fields, ends)}
    except Problem as problem:
        return problem.as_reply
    except OSError as error:
        return problem_of(error, str(fields.get("path", ""))).as_reply
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Problem("invalid", f"the operation's arguments are not right: {type(error).__name__} {error}").as_reply
    except RecursionError:
        return Problem("too-deep", "the folders are nested too deeply for that").as_reply
    except MemoryError:
        return Problem("no-space", "there is not enough memory in the session for that").as_reply


def _given(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of the optional arguments ``names`` that the request has."""
    return {name: fields[name] for name in names if fields.get(name) is not None}


def _content_of(path: str) -> Iterator[bytes]:
    """What came with the operation."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.closing(os.fdopen(file, "rb", buffering=0)) as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _write(workspace: Workspace, fields: Mapping[str, Any], ends: Ends) -> dict[str, object]:
    given = _given(fields, "if_match", "only_new")
    return content.write(workspace, fields["path"], _content_of(ends.source), most=fields["most"], **given)


def _edit(workspace: Workspace, fields: Mapping[str, Any], _: Ends) -> dict[str, object]:
    blocks = [edits.Edit(block["search"], block["replace"]) for block in fields["edits"]]
    return edits.edit(workspace, fields["path"], blocks, **_given(fields, "if_match"))


def _archive(workspace: Workspace, fields: Mapping[str, Any], ends: Ends) -> dict[str, object]:
    form = fields["format"]
    if form not in ("zip", "tar.gz"):
        raise Problem("invalid", f"{form!r} is not a format of archives: take zip or tar.gz")
    if "to" not in fields:
        return archives.archive(workspace, fields["paths"], ends.output, form=form)

    overwrite, made = bool(fields.get("overwrite")), dict[str, object]()
    content.check_free(workspace, fields["to"], overwrite=overwrite)

    def fill(file: int, _: str) -> None:
        made.update(archives.archive(workspace, fields["paths"], file, form=form))

    with workspace.at(fields["to"], make=True) as place:
        return made | content.replace(workspace, place, fill, only_new=not overwrite)


_OPERATIONS: Mapping[str, Operation] = {
    "stat": lambda workspace, fields, _: content.stat_path(workspace, fields["path"]),
    "read": lambda workspace, fields, ends: content.read(
        workspace, fields["path"], ends.output, **_given(fields, "offset", "length", "etag")
    ),
    "write": _write,
    "delete": lambda workspace, fields, _: content.delete(
        workspace, fields["path"], **_given(fields, "recursive", "if_match")
    ),
    "make_folder": lambda workspace, fields, _: content.make_folder(workspace, fields["path"]),
    "copy": lambda workspace, fields, _: content.copy(
        workspace, fields["path"], fields["to"], **_given(fields, "overwrite")
    ),
    "move": lambda workspace, fields, _: content.move(
        workspace, fields["path"], fields["to"], **_given(fields, "overwrite")
    ),
    "combine": lambda workspace, fields, _: content.combine(
        workspace,
        fields["paths"],
        fields["to"],
        headers=fields.get("headers", False),
        most=fields["most"],
        overwrite=bool(fields.get("overwrite")),
    ),
    "tree": lambda workspace, fields, _: tree.tree(
        workspace, fields.get("path") or "", **_given(fields, "depth", "glob", "after", "most")
    ),
    "overview": lambda workspace, fields, _: overview.overview(workspace, **_given(fields, "most")),
    "read_texts": lambda workspace, fields, _: texts.read_texts(
        workspace, fields["paths"], **_given(fields, "line_numbers", "most")
    ),
    "edit": _edit,
    "search": lambda workspace, fields, _: search.search(
        workspace,
        search.Query(fields["pattern"], **_given(fields, "path", "glob", "ignore_case")),
        **_given(fields, "most"),
    ),
    "archive": _archive,
    "extract": lambda workspace, fields, _: archives.extract(
        workspace,
        fields["path"],
        fields.get("to") or "",
        most_bytes=fields["most_bytes"],
        most_entries=fields["most_entries"],
        overwrite=bool(fields.get("overwrite")),
    ),
}
