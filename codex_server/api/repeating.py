"""Requests that may be repeated: the same ``Idempotency-Key`` and body get the first response again."""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Header
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from codex_server.access.idempotency import IdempotencyStore, StoredAnswer

_KEY = r"^[\x21-\x7e]{1,255}$"


def _checked_key(key: str) -> str:
    if not re.fullmatch(_KEY, key):
        raise PydanticCustomError("idempotency_key", "must be 1 to 255 printable ASCII characters without spaces")
    return key


IdempotencyKey = Annotated[
    Annotated[str, AfterValidator(_checked_key), Field(json_schema_extra={"pattern": _KEY})] | None,
    Header(
        alias="Idempotency-Key",
        description="Repeat a request safely: the same key and body get the first response again, for a day",
    ),
]


async def respond_once(
    store: IdempotencyStore, caller: str, key: str | None, body: bytes, make: Callable[[], Awaitable[StoredAnswer]]
) -> Response:
    """What ``make`` makes, or with a ``key`` that was used before what the first request got."""
    if key is None:
        return _response(await make())
    if stored := await store.begin(caller, key, hashlib.sha256(body).digest()):
        return _response(stored, {"Idempotency-Replayed": "true"})
    try:
        answer = await make()
        await store.finish(caller, key, answer)
    finally:
        await store.abandon(caller, key)  # after `finish` there is nothing to abandon
    return _response(answer)


def _response(response: StoredAnswer, headers: dict[str, str] | None = None) -> Response:
    return Response(
        response.body,
        response.status,
        headers={"Cache-Control": "no-store", **_location(response), **(headers or {})},
        media_type="application/json",
    )


_LOCATED = {201: ("/sessions", "session_id"), 202: ("/executions", "execution_id")}
"""By status: a session that was opened, and what goes on in the background."""


def _location(answer: StoredAnswer) -> dict[str, str]:
    if answer.status not in _LOCATED:
        return {}
    place, name = _LOCATED[answer.status]
    return {"Location": f"{place}/{json.loads(answer.body)[name]}"}
