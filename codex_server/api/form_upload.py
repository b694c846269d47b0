"""The file in a multipart form, read while the form arrives. Imported when a form comes."""

import asyncio
from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from codex_server.errors import TooLarge
from codex_server.service.fields import FieldError, FieldsInvalid

FIELD = b"file"
_MOST_PARTS = 100
_AT_ONCE = 2**15
"""Bytes that are parsed in one turn of the event loop."""
_NO_FILE = "the form has no part named `file` with a file name; send it with curl -F file=@data.csv"


class FormFile:
    """The part named ``file`` of a form; other parts are passed over.

    Raises ``TooLarge`` above ``most`` bytes in all, ``FieldsInvalid`` for what is no form.
    """

    def __init__(self, name: str, chunks: AsyncIterator[bytes], content_type: str, most: int) -> None:
        self._given_name = name
        self._most = most
        self._chunks = chunks
        self._name: str | None = None
        self._is_file = False
        self._field, self._headers = b"", dict[bytes, bytes]()
        self._data = bytearray()
        self._parts, self._size, self._is_closed = 0, 0, False
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

    async def open(self) -> str:
        """The file's name, once the file begins: the one that was given, else the form's."""
        while self._name is None:
            if not await self._feed():
                raise FieldsInvalid([FieldError("", _NO_FILE)])
        return self._given_name or self._name

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The file's content."""
        more = True
        while more:
            if self._data:
                content, self._data = bytes(self._data), bytearray()
                yield content
            more = await self._feed()
        if self._data:
            yield bytes(self._data)

    async def _feed(self) -> bool:
        """Whether there was another chunk of the form."""
        chunk = await anext(self._chunks, None)
        try:
            if chunk is None:
                self._check_whole()
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

    def _check_whole(self) -> None:
        if self._name is not None and not self._is_closed:
            raise FieldsInvalid([FieldError("", "the form ended within the file; send it again")])

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise FieldsInvalid([FieldError("", f"the form has more than {_MOST_PARTS} parts; send the file alone")])
        self._headers.clear()
        self._field = b""
        self._is_file = False

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        if self._field in self._headers:  # the value of the header before has come
            self._field = b""
        self._field += data[start:end].lower()

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._headers[self._field] = self._headers.get(self._field, b"") + data[start:end]

    def _end_headers(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        if options.get(b"name") == FIELD and b"filename" in options and self._name is None:
            self._is_file = True
            self._name = options[b"filename"].decode("utf-8", "replace")

    def _end_part(self) -> None:
        self._is_closed = self._is_closed or self._is_file
        self._is_file = False

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._data += data[start:end]


def form_too_large(most: int) -> TooLarge:
    """The error for a form of more than ``most`` bytes."""
    return TooLarge(
        f"the form is above {most} bytes, which holds a file of CODEX_MAX_UPLOAD; send a smaller one, and it alone"
    )
