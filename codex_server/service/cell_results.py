"""The result that an interpreter claims for a cell, as a response may carry it: typed, readable, within a size."""

import json
from collections.abc import Callable, Mapping
from typing import Any

PLAIN = "text/plain"
Result = dict[str, Any]
_MOST_FORMS = 20
_MOST_NAME = 100
_MOST_DEPTH = 64
"""Of nested lists and objects: what is deeper is more than JSON's readers and writers take."""
_LEAST_TEXT = 200
"""Characters of text that are worth to be kept: a head, a tail, and the mark between."""


def readable_result(claimed: Mapping[str, object] | None) -> Result | None:
    """What of ``claimed`` is of its type: text, or JSON under a JSON type. None when nothing is.

    It comes from the guest: any names, any depth, unpaired surrogates.
    """
    forms = list((claimed or {}).items())[:_MOST_FORMS]
    read = {_text(name): _value(value) for name, value in forms if len(name) <= _MOST_NAME and _fits(name, value)}
    return read or None


def shorten_result(result: Result, room: int, shorten: Callable[[str, int, int], str]) -> Result | None:
    """``result`` in at most ``room`` characters of JSON: first without its largest rich forms, then with less text.

    ``shorten`` cuts the middle of a text of so many bytes, to so many characters of JSON.
    """
    kept = dict(result)
    while (rich := [name for name in kept if name != PLAIN]) and cost(kept) > room:
        del kept[max(rich, key=lambda name: cost(kept[name]))]
    if not kept or cost(kept) <= room:
        return kept or None
    left = room - cost({PLAIN: ""})
    return {PLAIN: shorten(kept[PLAIN], left, len(kept[PLAIN].encode()))} if left >= _LEAST_TEXT else None


def cost(value: object) -> int:
    """The characters of ``value`` as JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _fits(name: str, value: object) -> bool:
    if isinstance(value, str):
        return True
    return name.endswith(("/json", "+json")) and _depth_is_within(value, _MOST_DEPTH)


def _depth_is_within(value: object, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(depth > 0 and _depth_is_within(each, depth - 1) for each in inner)


def _value(value: object) -> object:
    match value:
        case str():
            return _text(value)
        case dict():
            return {_text(str(key)): _value(each) for key, each in value.items()}
        case list():
            return [_value(each) for each in value]
        case float() if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
            return None
        case _:
            return value


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
