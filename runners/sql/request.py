"""What a caller may say beside the SQL: one JSON object, checked."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

MEMORY = ":memory:"
MOST_ROWS = 100_000
_EXAMPLE = """give one object, such as {"parameters": [1, "a"], "max_rows": 100}"""


class Refused(Exception):
    """The request or the SQL is at fault; the text says how."""


@dataclass(frozen=True)
class Request:
    """``database`` is a path within the workspace or ``:memory:``; ``timeout`` are seconds for all statements."""

    database: str = "data.sqlite"
    parameters: Sequence[Any] | Mapping[str, Any] = ()
    read_only: bool = False
    max_rows: int = 1000
    timeout: float | None = None


def parse(arguments: Sequence[str]) -> Request:
    """The request in the first argument; the defaults without one. Raises ``Refused``."""
    if len(arguments) > 1:
        raise Refused(f"there are {len(arguments)} arguments; give one, a JSON object with the options")
    try:
        given = json.loads(arguments[0]) if arguments else {}
    except ValueError as error:
        raise Refused(f"the argument is not JSON: {error}; {_EXAMPLE}") from error
    if not isinstance(given, dict):
        raise Refused(f"the argument is not a JSON object with the options; {_EXAMPLE}")
    names = [field.name for field in fields(Request)]
    if unknown := [name for name in given if name not in names]:
        raise Refused(f"there is no option {unknown[0]!r}; there are {', '.join(names)}")
    request = Request(**given)
    _check(request)
    return Request(**{**given, "parameters": _values(request.parameters)})


def _check(request: Request) -> None:
    rules = {
        "database": isinstance(request.database, str) and _is_inside(request.database),
        "parameters": isinstance(request.parameters, list | dict | tuple),
        "read_only": isinstance(request.read_only, bool),
        "max_rows": type(request.max_rows) is int and 0 <= request.max_rows <= MOST_ROWS,
        "timeout": request.timeout is None or (type(request.timeout) in (int, float) and request.timeout > 0),
    }
    expected = {
        "database": f"a path within the workspace without '..', or {MEMORY!r}",
        "parameters": "a list, or an object for named ones",
        "read_only": "true or false",
        "max_rows": f"a whole number from 0 to {MOST_ROWS}",
        "timeout": "a number of seconds above 0",
    }
    for name, holds in rules.items():
        if not holds:
            raise Refused(f"{name} must be {expected[name]}")


def _is_inside(path: str) -> bool:
    if path == MEMORY:
        return True
    return bool(path) and not path.startswith("/") and "\0" not in path and ".." not in path.split("/")


def _values(parameters: Any) -> Any:
    if isinstance(parameters, dict):
        return {name: _value(name, value) for name, value in parameters.items()}
    return [_value(number, value) for number, value in enumerate(parameters, 1)]


def _value(place: object, value: Any) -> Any:
    """As SQLite takes it; a blob is written as it comes: ``{"base64": "..."}``."""
    if value is None or isinstance(value, str | int | float):
        return value
    try:
        if isinstance(value, dict) and set(value) == {"base64"}:
            return base64.b64decode(value["base64"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise Refused(f"parameter {place}: {error}") from error
    raise Refused(f"parameter {place} must be null, a number, a text, or {{'base64': '...'}} for a blob")
