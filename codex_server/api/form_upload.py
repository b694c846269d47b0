"""The files in a multipart form, read while the form arrives. Imported when a form comes."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from codex_server.errors import TooLarge
from codex_server.service.fields import FieldError, FieldsInvalid

FIELD = b"file"
_MOST_PARTS = 100
_AT_ONCE = 2**15
"""Bytes that are parsed in one turn of the event loop."""
_NO_FILE = "the form has no part named `file` with a file name; send it with curl -F file=@data.csv"
_FOR_SEVERAL = "`path` names one file and the form has several; end it with `/` to name their folder, as in ?path=data/"


@dataclass(slots=True)
class _Part:
    """A file of the form, as far as it has come and was not taken."""

    name: str
    data: bytearray = field(default_factory=bytearray)
    is_closed: bool = False


class Form:
    """The parts of a form that are files: those named ``file``, or with ``any_field`` all; others are passed over.

    Raises ``TooLarge`` above ``most`` bytes in all, ``FieldsInvalid`` for what is no form.
    """

    def __init__(self, chunks: AsyncIterator[bytes], content_type: str, most: int, *, any_field: bool = False) -> None:
        self._chunks = chunks
        self._most = most
        self._any_field = any_field
        self._waiting = deque[_Part]()
        self._open: _Part | None = None
        self._field, self._headers = b"", dict[bytes, bytes]()
        self._parts = self._size = 0
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not boundary:
            raise FieldsInvalid([FieldError("", "the Content-Type of the form names no boundary")])
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_field,
                "on_header_value": self._add_value,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
            },
        )

    async def following(self) -> "tuple[str, AsyncIterator[bytes]] | None":
        """The name and the content of the next file, once it begins; the one before must have been read."""
        while not self._waiting:
            if not await self._feed():
                return None
        part = self._waiting.popleft()
        return part.name, self._content(part)

    async def _content(self, part: _Part) -> AsyncIterator[bytes]:
        while True:
            if part.data:
                content, part.data = bytes(part.data), bytearray()
                yield content
            elif part.is_closed:
                return
            else:
                await self._feed()

    async def _feed(self) -> bool:
        """Whether there was another chunk of the form."""
        chunk = await anext(self._chunks, None)
        try:
            if chunk is None:
                if self._open:
                    raise FieldsInvalid([FieldError("", "the form ended within the file; send it again")])
                return False
            self._size += len(chunk)
            if self._size > self._most:
                raise form_too_large(self._most)
            for start in range(0, len(chunk), _AT_ONCE):
                self._parser.write(chunk[start : start + _AT_ONCE])
                await asyncio.sleep(0)  # a form of many small parts must not hold the others up
        except FormParserError as error:
            raise FieldsInvalid([FieldError("", f"the body is no multipart form: {error}")]) from None
        return True

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise FieldsInvalid([FieldError("", f"the form has more than {_MOST_PARTS} parts; send the file alone")])
        self._headers.clear()
        self._field = b""

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        if self._field in self._headers:  # the value of the header before has come
            self._field = b""
        self._field += data[start:end].lower()

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._headers[self._field] = self._headers.get(self._field, b"") + data[start:end]

    def _end_headers(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        name = options.get(b"filename")
        # A page sends a field in which nobody chose a file with an empty name.
        if name and (self._any_field or options.get(b"name") == FIELD):
            self._open = _Part(name.decode("utf-8", "replace"))
            self._waiting.append(self._open)

    def _end_part(self) -> None:
        if self._open:
            self._open.is_closed = True
        self._open = None

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._open:
            self._open.data += data[start:end]


class FormFile:
    """The first file of a form, called ``name`` unless the form names it; the rest is passed over."""

    def __init__(self, name: str, form: Form) -> None:
        self._name = name
        self._form = form
        self._content: AsyncIterator[bytes] | None = None

    async def open(self) -> str:
        """The file's name, once the file begins: the one that was given, else the form's."""
        name, self._content = await _first(self._form)
        return self._name or name

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The file's content."""
        assert self._content is not None  # noqa: S101 - it is open
        async for chunk in self._content:
            yield chunk
        while (other := await self._form.following()) is not None:
            async for _ in other[1]:
                pass


async def files_of(form: Form, path: str) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
    """Where each file goes, and its content: by its name, in the folder ``path`` if that ends with ``/``.

    Else ``path`` is that of the one file. It has no end before the form has: what is refused then is not written.
    """
    name, content = await _first(form)
    if path and not path.endswith("/"):
        yield path, _alone(form, content)
        return
    yield path + name, content
    while (following := await form.following()) is not None:
        name, content = following
        yield path + name, content


async def _first(form: Form) -> tuple[str, AsyncIterator[bytes]]:
    first = await form.following()
    if first is None:
        raise FieldsInvalid([FieldError("", _NO_FILE)])
    return first


async def _alone(form: Form, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in content:
        yield chunk
    if await form.following() is not None:
        raise FieldsInvalid([FieldError("/path", _FOR_SEVERAL)])


def form_too_large(most: int) -> TooLarge:
    """The error for a form of more than ``most`` bytes."""
    return TooLarge(
        f"the form is above {most} bytes, which holds a file of CODEX_MAX_UPLOAD; send a smaller one, and it alone"
    )
