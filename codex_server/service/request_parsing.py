"""From a request's JSON to an ``Execution``: every field checked, every refusal with the remedy."""

import base64
import binascii
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from codex_server.errors import InvalidCode, InvalidRequest
from codex_server.ids import new_id
from codex_server.languages import Languages
from codex_server.limits import Limits
from codex_server.model import Execution, InputFile, Stdio, Terminal
from codex_server.paths import checked_paths
from codex_server.service.cells import Cell
from codex_server.service.fields import FieldError, FieldsInvalid, LimitsTooLoose, escape_pointer
from codex_server.service.schemas import (
    BatchRequest,
    ExecuteRequest,
    InputRequest,
    RequestFile,
    RequestLimits,
    RequestTerminal,
)
from codex_server.settings import Settings
from codex_server.units import format_sizes

MAX_ARGS = 1024
MAX_FILES = 1000
MAX_WORD_BYTES = 2**17 - 1
"""The longest argument, or variable with its name, that Linux hands to a program (MAX_ARG_STRLEN)."""
MAX_WORDS_BYTES = 2**20
"""Arguments and variables together, half of what Linux takes with the usual stack."""
_MAX_FAULTS = 20
_OF_A_WHOLE_SESSION = ("memory_bytes", "processes", "file_bytes")
"""Limits that the kernel holds for all that runs in a session, from its beginning to its end."""
A_PROGRAM, A_BATCH, AN_INPUT = '{"code": "print(1)"}', '{"items": [{"code": "print(1)"}]}', '{"text": "yes\\n"}'
"""What the bodies of requests can look like, for whoever sent something else."""
_ONE_INPUT = 'send exactly one of {"text": "..."}, {"base64": "..."} and {"eof": true}'
_NOTHING: Mapping[str, bytes] = {}
_NOT_FETCHED = (
    "this server fetches nothing from elsewhere; send the content, or upload the file with POST /files and send its "
    "`file_id`"
)
_Model = TypeVar("_Model", bound=BaseModel)
_OBJECTS: Mapping[int | str, str] = {
    "files": '{"path": "data/in.csv", "content": "1,2"}',
    "limits": '{"memory_bytes": 134217728}',
    "terminal": '{"rows": 24, "columns": 80}',
    "env": '{"MODE": "test"}',
}


def read_request(content: Mapping[str, object]) -> ExecuteRequest:
    """The request in ``content``.

    Raises ``FieldsInvalid`` that names every field at fault: unknown ones first, for where a name is misspelt, that is
    why the right one is missing.
    """
    return validated(ExecuteRequest, content)


def read_batch(content: Mapping[str, object]) -> BatchRequest:
    """The same for a batch, whose items are not looked at."""
    return validated(BatchRequest, content)


def read_input(content: Mapping[str, object]) -> bytes | None:
    """The bytes to send to a program; None for the end of its input. Raises ``FieldsInvalid``."""
    request = validated(InputRequest, content)
    if len(request.model_fields_set) != 1 or (request.model_fields_set == {"eof"} and not request.eof):
        raise FieldsInvalid([FieldError("", _ONE_INPUT)])
    if request.eof:
        return None
    return request.text.encode() if request.text else _from_base64(request.base64, "/base64")


def validated(model: type[_Model], content: Mapping[str, object]) -> _Model:
    """``content`` as a ``model``. Raises ``FieldsInvalid``."""
    """``content`` as a ``model``. Raises ``FieldsInvalid``."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        found = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
        raise FieldsInvalid([_fault(each, model) for each in found[:_MAX_FAULTS]]) from None


def to_execution(
    request: ExecuteRequest,
    settings: Settings,
    languages: Languages,
    uploaded: Mapping[str, bytes] = _NOTHING,
    cell: Cell | None = None,
) -> Execution:
    """What to run; ``uploaded`` has the content of files by their ids, ``cell`` is its place in a session.

    Raises a leaf of ``InvalidRequest``, or ``LanguageUnavailable``.
    """
    _check_code(request.code, settings.max_code)
    language = languages.find(request.language)
    if cell:
        cell.session.check_language(language.name)
    _check_words(request.args, request.env)
    program = "" if cell else language.file_name  # no file of a session is its program
    files = input_files(request.files, program, settings, uploaded)
    return Execution(
        id=new_id("exe"),
        language=language.name,
        code=request.code,
        limits=_limits(request, settings, cell),
        args=tuple(request.args),
        env=dict(request.env),
        stdin=request.stdin.encode(),
        keep_stdin_open=request.keep_stdin_open,
        files=files,
        inline_bytes=_inline_bytes(request, settings.max_inline_file),
        stdio=_stdio(request),
    )


def _inline_bytes(request: ExecuteRequest, ceiling: int) -> int:
    if "max_inline_bytes" not in request.model_fields_set:
        return ceiling
    if (wanted := request.max_inline_bytes) <= ceiling:
        return wanted
    said = f"{wanted} is above this server's ceiling of {ceiling} bytes; ask for at most {ceiling}"
    raise LimitsTooLoose([FieldError("/max_inline_bytes", said)])


def _stdio(request: ExecuteRequest) -> Stdio:
    size = request.terminal
    return Stdio(request.merge_streams, Terminal(size.rows, size.columns) if request.in_terminal else None)


def _check_code(code: str, max_bytes: int) -> None:
    if not code:
        raise InvalidCode("the code is empty; send a program", "/code")
    if "\0" in code:
        raise InvalidCode("the code carries a NUL character; leave it out", "/code")
    # UTF-8 takes four bytes for a character at most: what is short by that count is not encoded for its size.
    if 4 * len(code) > max_bytes and (size := len(code.encode())) > max_bytes:
        shown, cap = format_sizes(size, max_bytes)
        raise InvalidCode(
            f"the code is {shown}, above this server's cap of {cap}; send data in `stdin` or `files`",
            "/code",
        )


def _limits(request: ExecuteRequest, settings: Settings, cell: Cell | None) -> Limits:
    timeout = request.timeout if "timeout" in request.model_fields_set else settings.default_timeout
    wanted = limits_wanted(request.limits)
    ceilings = settings.background_ceilings if request.background else settings.ceilings
    if cell:
        ceilings = ceilings.tightened(cell.session.terms.limits)
    if field_errors := [
        *_timeout_field_errors(timeout, ceilings.wall_seconds, settings.background_ceilings.wall_seconds),
        *limit_faults(wanted, ceilings),
    ]:
        raise LimitsTooLoose(field_errors)
    if cell:
        _check_limits_of_cell(wanted, ceilings)
    return replace(ceilings.tightened(wanted), wall_seconds=timeout)


def _check_limits_of_cell(wanted: Mapping[str, float], of_session: Limits) -> None:
    """Raise ``FieldsInvalid`` for a tighter limit that only a session as a whole can have."""
    held = {name: getattr(of_session, name) for name in _OF_A_WHOLE_SESSION}
    if faults := [
        FieldError(
            f"/limits/{name}",
            f"it is {held[name]} for the whole session and cannot be tighter for one execution; leave it out, or open "
            "a session with this limit",
        )
        for name in _OF_A_WHOLE_SESSION
        if wanted.get(name, held[name]) < held[name]
    ]:
        raise FieldsInvalid(faults)


def _timeout_field_errors(timeout: float, ceiling: float, in_background: float) -> list[FieldError]:
    if timeout <= ceiling:
        return []
    said = f"{timeout:.15g} is above this server's ceiling of {ceiling:.15g} seconds; ask for at most {ceiling:.15g}"
    if timeout <= in_background:
        said += f", or send `wait_seconds` to run it in the background, for at most {in_background:.15g}"
    return [FieldError("/timeout", said)]


def refuse_background(request: ExecuteRequest) -> None:
    """Raise ``InvalidRequest`` for a program that is to run in the background, where the caller waits for the end."""
    if request.background:
        raise InvalidRequest("this call waits for the end of the program; send it to POST /execute", "/wait_seconds")


def limits_wanted(limits: RequestLimits) -> dict[str, float]:
    """The limits that a request tightens."""
    return {name: value for name, value in limits.items() if isinstance(value, int | float)}


def limit_faults(wanted: Mapping[str, float], ceilings: Limits) -> list[FieldError]:
    """The limits of a request that are above their ceilings."""
    return [FieldError(f"/limits/{name}", said) for name, said in ceilings.too_loose(wanted).items()]


def _check_words(args: list[str], env: Mapping[str, str]) -> None:
    if len(args) > MAX_ARGS:
        raise InvalidRequest(f"there are {len(args)} arguments; send at most {MAX_ARGS}", "/args")
    for index, arg in enumerate(args):
        _check_word(arg, f"/args/{index}")
    for name, value in env.items():
        pointer = f"/env/{escape_pointer(name[:80])}"
        if not name or "=" in name:
            raise InvalidRequest("a variable's name is empty or has '='; use letters, digits and '_'", pointer)
        _check_word(f"{name}={value}", pointer)
    total = sum(len(word.encode()) + 1 for word in (*args, *env, *env.values()))
    if total > MAX_WORDS_BYTES:
        shown, cap = format_sizes(total, MAX_WORDS_BYTES)
        raise InvalidRequest(
            f"arguments and variables are {shown} together, above {cap}; send data in `stdin` or `files`", "/args"
        )


def _check_word(word: str, pointer: str) -> None:
    if "\0" in word:
        raise InvalidRequest("it carries a NUL character, which no program can be given; leave it out", pointer)
    if (size := len(word.encode())) > MAX_WORD_BYTES:
        raise InvalidRequest(
            f"it is {size} bytes, and a program takes at most {MAX_WORD_BYTES}; send data in `stdin` or `files`",
            pointer,
        )


def input_files(
    files: list[RequestFile], program: str, settings: Settings, uploaded: Mapping[str, bytes]
) -> tuple[InputFile, ...]:
    """What ``files`` of a request are to be in the workspace, beside ``program``. Raises ``InvalidRequest``."""
    if len(files) > MAX_FILES:
        raise InvalidRequest(f"there are {len(files)} files; send at most {MAX_FILES}", "/files")
    paths = checked_paths((file.path for file in files), program)
    read = tuple(
        InputFile(path, _content(file, f"/files/{index}/content", uploaded))
        for index, (path, file) in enumerate(zip(paths, files, strict=True))
    )
    total = sum(len(file.content) for file in read)
    if total > settings.max_workspace:
        shown, room = format_sizes(total, settings.max_workspace)
        raise InvalidRequest(f"the files are {shown} together, and the workspace holds {room}; send less", "/files")
    return read


def _content(file: RequestFile, pointer: str, uploaded: Mapping[str, bytes]) -> bytes:
    given = file.model_fields_set & {"content", "file_id"}
    if not given:
        raise FieldsInvalid([FieldError(pointer, "Field required: send `content`, or a `file_id` of POST /files")])
    if given == {"content", "file_id"}:
        raise FieldsInvalid([FieldError(pointer, "there are `content` and `file_id`; send one of them")])
    if "file_id" in given:
        return uploaded[file.file_id]
    return file.content.encode() if file.encoding == "utf-8" else _from_base64(file.content, pointer)


def _from_base64(content: str, pointer: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"the content is not base64 ({error}); use the alphabet with + and /", pointer) from None


def _fault(error: ErrorDetails, model: type[BaseModel]) -> FieldError:
    *parents, last = error["loc"] or ("",)
    pointer = "".join(f"/{escape_pointer(str(step)[:80])}" for step in error["loc"])
    if error["type"] == "extra_forbidden" and last == "url" and parents[:1] == ["files"]:
        return FieldError(pointer, _NOT_FETCHED)
    if error["type"] == "extra_forbidden":
        return FieldError(pointer, _unknown_field(str(last), _fields_at(parents, model)))
    if error["input"] is None:
        return FieldError(pointer, f"null is not taken here; {_instead_of_null(parents, str(last), model)}")
    if error["type"] in ("model_type", "dict_type"):
        return FieldError(pointer, f"must be an object such as {_OBJECTS[error['loc'][0]]}")
    return FieldError(pointer, error["msg"].removeprefix("Value error, "))


def _instead_of_null(parents: list[str | int], name: str, model: type[BaseModel]) -> str:
    if model is InputRequest:
        return _ONE_INPUT
    field = None if parents else model.model_fields.get(name)
    return "send a value" if field and field.is_required() else "leave the field out to get its default"


def _unknown_field(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name[:80].lower(), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the fields here are {', '.join(names)}"
    return f"there is no field {name[:80]!a}; {hint}"


def _fields_at(parents: list[str | int], model: type[BaseModel]) -> Iterable[str]:
    match parents:
        case ["files", _]:
            return RequestFile.model_fields
        case ["limits"]:
            return RequestLimits.__annotations__
        case ["terminal"]:
            return RequestTerminal.model_fields
        case _:
            return model.model_fields
