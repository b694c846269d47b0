"""Reading a request's body: within a size, within a time, as JSON."""

import asyncio
import json
import re

from fastapi import Request
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from codex_server.encodings import UTF8_MARK, decode_text
from codex_server.errors import InvalidCode, InvalidRequest, TooLarge
from codex_server.service.fields import escape_pointer
from codex_server.units import format_seconds, format_size

MAX_VALUES = 10_000
"""In one body: more than twice what 1000 files and 1024 arguments need."""
_SEPARATORS = b",:[{"
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\"';\s]*)", re.IGNORECASE)
_CHARSETS = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})
_NO_CODINGS = frozenset({"", "identity", "utf-8", "utf8"})
"""Values of Content-Encoding that compress nothing; people mistake it for the charset."""


def check_is_json(request: Request) -> None:
    """See that the header announces plain JSON. Raises HTTP 415.

    INVARIANT: this is also what keeps a web page from calling a server without tokens: a browser asks permission
    (and gets none) before it sends this type to another origin.
    """
    sent = request.headers.get("content-type", "")
    if not _JSON_TYPE.fullmatch(sent.partition(";")[0].strip()):
        shown = f"{sent[:80]!r}" if sent else "no Content-Type"
        raise HTTPException(415, f"the body came as {shown}; send it with `Content-Type: application/json`")
    charset = _CHARSET.search(sent)
    if charset is not None and charset[1].lower() not in _CHARSETS:
        shown = f"{charset[1][:40]!r}"
        raise HTTPException(415, f"the body came in the charset {shown}; send `application/json`, which is UTF-8")
    encoding = request.headers.get("content-encoding", "").strip()
    if encoding.lower() not in _NO_CODINGS:
        raise HTTPException(415, f"the body is compressed ({encoding[:40]!r}); send it without Content-Encoding")


async def read_body(request: Request, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body. Raises ``TooLarge``, HTTP 408 when it takes longer than ``seconds``, ``ClientDisconnect``."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise HTTPException(
            408,
            f"the body did not arrive within {format_seconds(seconds)}; send it at once",
            headers={"Connection": "close"},
        ) from None
    return bytes(body)


def parse_object(body: bytes, example: str) -> dict[str, object]:
    """The JSON object in ``body``. Raises HTTP 400 for what is no JSON, ``InvalidRequest`` for another value.

    ``example`` is one that would be right.

    INVARIANT: what reading costs is bounded by the body's length, not by what it is made of: millions of small values,
    each with a fault of its own, would hold up everybody else for a minute and take gigabytes.
    """
    body = body.removeprefix(UTF8_MARK)
    if count_separators(body) > 2 * MAX_VALUES:
        raise InvalidRequest(f"the body has more than {MAX_VALUES:,} values; send data as text, in `stdin` or `files`")
    try:
        # Only names are cached: by default the parser would keep thousands of short texts, variables with secrets too.
        content: object = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        _refuse_half_characters(body)
        raise HTTPException(400, f"the body is {_what_it_is(body, error)}; send one JSON object in UTF-8") from None
    if not isinstance(content, dict):
        raise InvalidRequest(f"the body is JSON, but not an object; send for example {example}")
    return content


def count_separators(body: bytes) -> int:
    """How many of JSON's separators stand in ``body`` outside of its texts; each value has one before it, or two."""
    if len(body) <= 2 * MAX_VALUES:
        return 0
    structure = body
    if b"\\" in body:
        structure = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if structure.count(b'"') > 4 * MAX_VALUES:
        return len(structure)
    outside = b"".join(structure.split(b'"')[::2])
    return sum(outside.count(separator) for separator in _SEPARATORS)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(
        f"the body is above this server's cap of {format_size(max_bytes)} (CODEX_MAX_BODY); send less, "
        "or upload large files once with POST /files"
    )


def _what_it_is(body: bytes, error: ValueError) -> str:
    if not body.strip():
        return "empty"
    try:
        decode_text(body)
    except ValueError as other:
        return f"not JSON: {other}"
    return f"not JSON: {error}"


def _refuse_half_characters(body: bytes) -> None:
    """Say which text has the unpaired surrogate, where that is what keeps ``body`` from being JSON."""
    if not _SURROGATE_ESCAPE.search(body):
        return
    try:
        pointer = _find_surrogate(json.loads(body), "")
    except (ValueError, RecursionError):
        return
    if pointer is not None:
        kind = InvalidCode if pointer == "/code" else InvalidRequest
        raise kind("the text has an unpaired surrogate (half of a character); send whole Unicode characters", pointer)


def _find_surrogate(value: object, pointer: str) -> str | None:
    if isinstance(value, str):
        return pointer if _has_half_character(value) else None
    items: list[tuple[object, object]] = []
    if isinstance(value, dict):
        if any(map(_has_half_character, value)):
            return pointer
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = (_find_surrogate(child, f"{pointer}/{escape_pointer(str(name))}") for name, child in items)
    return next((place for place in found if place is not None), None)


def _has_half_character(text: str) -> bool:
    try:
        text.encode()  # many times faster than looking at each character
    except UnicodeEncodeError:
        return True
    return False
