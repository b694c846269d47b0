"""Files in a request's body: the body itself is one, or the parts of a multipart form are."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.exceptions import HTTPException

from codex_server.service.fields import FieldError, FieldsInvalid
from codex_server.service.uploads import SentFile
from codex_server.units import format_seconds, format_size

if TYPE_CHECKING:
    from codex_server.api.form_upload import Form

_AT_ONCE = 2**18
"""Bytes that are gathered before they are written, and that must come within CODEX_RECEIVE_SECONDS."""
_AROUND_A_FILE = 2**16
"""Bytes of a form beside its file."""
_NO_BODY = (
    "the request has no body, which is to be the file; send it with curl --data-binary @data.csv, or Content-Length: 0 "
    "for an empty file"
)
_FORM, _WRONG_FORM = "multipart/form-data", "application/x-www-form-urlencoded"


def sent_file(request: Request, name: str, most: int, seconds: float, *, any_type: bool = False) -> SentFile:
    """The file that comes, called ``name`` unless its form names it. Raises HTTP 415, ``TooLarge`` for a form.

    A part of it that takes longer than ``seconds`` is HTTP 408. ``any_type``: the body is the file, whatever it is
    called.
    """
    _check_type("" if any_type else _sent_type(request), request.headers.get("content-encoding", "identity"))
    if any_type or not is_form(request):
        return _raw_file(request, name, seconds)
    from codex_server.api.form_upload import FormFile  # noqa: PLC0415 - most servers never see a form

    return FormFile(name, _form(request, most, seconds, any_field=False))


def sent_files(
    request: Request, path: str, most: int, seconds: float
) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
    """The files that come, each with its path: the body with ``path``, or every file of a form. Raises as above.

    For a form ``path`` may be the folder (``files_of``).
    """
    _check_type(_sent_type(request), request.headers.get("content-encoding", "identity"))
    if not is_form(request):
        return _only(path, _raw_file(request, path, seconds))
    from codex_server.api.form_upload import files_of  # noqa: PLC0415 - most servers never see a form

    return files_of(_form(request, most, seconds, any_field=True), path)


async def _only(path: str, file: "_RawFile") -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
    yield path, aiter(file)


def _form(request: Request, most: int, seconds: float, *, any_field: bool) -> "Form":
    from codex_server.api.form_upload import Form, form_too_large  # noqa: PLC0415 - most servers never see a form

    most += _AROUND_A_FILE
    size = announced_size(request)
    if size is not None and size > most:
        raise form_too_large(most)
    return Form(_gathered(request, seconds), _sent_type(request), most, any_field=any_field)


def is_form(request: Request) -> bool:
    """Whether the body is a multipart form."""
    return _media_type(_sent_type(request)) == _FORM


def _sent_type(request: Request) -> str:
    return request.headers.get("content-type", "")


@dataclass(frozen=True, slots=True)
class _RawFile:
    """A ``SentFile`` that is the body itself."""

    name: str
    chunks: AsyncIterator[bytes]

    async def open(self) -> str:
        return self.name

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks


def _raw_file(request: Request, name: str, seconds: float) -> _RawFile:
    """The body as a file. Raises ``FieldsInvalid`` where there is none: an empty file is one of length 0."""
    if not {"content-length", "transfer-encoding"} & set(request.headers):
        raise FieldsInvalid([FieldError("", _NO_BODY)])
    return _RawFile(name, _gathered(request, seconds))


def announced_size(request: Request) -> int | None:
    """The length of the body, where the request says it."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


def _media_type(sent: str) -> str:
    return sent.partition(";")[0].strip().lower()


def _check_type(sent: str, encoding: str) -> None:
    """See that the body is a file, or a form with one. Raises HTTP 415.

    INVARIANT: a web page cannot upload to a server without tokens: ``api/callers.py`` refuses its ``Origin``.
    """
    if _media_type(sent) == _WRONG_FORM:
        raise HTTPException(
            415,
            "the body came as a form without files; send the file itself to the same address: curl --data-binary "
            "@data.csv -H 'Content-Type: application/octet-stream' ..., or as a form: curl -F file=@data.csv ...",
        )
    if encoding.strip().lower() != "identity":
        raise HTTPException(415, "the body is compressed; send it without Content-Encoding")


async def _gathered(request: Request, seconds: float) -> AsyncIterator[bytes]:
    """The body in parts of about ``_AT_ONCE``. Raises HTTP 408 when one of them takes longer than ``seconds``."""
    parts = request.stream()
    more = True
    while more:
        gathered = bytearray()
        try:
            async with asyncio.timeout(seconds):
                while more and len(gathered) < _AT_ONCE:
                    part = await anext(parts, None)
                    more = part is not None
                    gathered += part or b""
        except TimeoutError:
            raise HTTPException(
                408,
                f"{format_size(_AT_ONCE)} of the file did not arrive within {format_seconds(seconds)}; send it faster",
                headers={"Connection": "close"},
            ) from None
        yield bytes(gathered)
