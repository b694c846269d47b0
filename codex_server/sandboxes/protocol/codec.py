"""The one checked decoder of messages: a frozen dataclass to the body of a frame, and back.

A message class declares its fields, and their annotations say what a body may hold: ``int``, ``str``, ``bool``,
``Literal``, each of these or ``None``, ``tuple``, ``Mapping`` from ``str``, and other messages. ``Annotated`` with a
``Range`` bounds an ``int`` or a ``float``.
INVARIANT: the decoder trusts nothing: types are exact (a bool is no int), every field is there, and nothing else is.
"""

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from .frames import BadFrame, Body

M = TypeVar("M")
Reader = Callable[[Any], Any]
"""Returns the checked value of one JSON value. Raises ``BadMessage``."""


class BadMessage(BadFrame):
    """The body of a frame is not the message that it should be; the text names the field."""


class Range(NamedTuple):
    """The least and the most that a number may be."""

    least: float
    most: float


Count = Annotated[int, Range(0, 2**53)]
"""Bytes, or how many of something."""
Seconds = Annotated[float, Range(0, 2**53)]


def encode(message: Any) -> Body:
    """The body of a frame for ``message``, as JSON can carry it."""
    return {name: _plain(getattr(message, name)) for name in _readers(type(message))}


def decode(cls: type[M], body: object) -> M:
    """The message of class ``cls`` in ``body``. Raises ``BadMessage``."""
    readers = _readers(cls)
    if type(body) is not dict:
        raise BadMessage(f"{cls.__name__}: not an object")
    if body.keys() != readers.keys():
        raise BadMessage(f"{cls.__name__}: {_difference(body.keys(), readers.keys())}")
    values = []
    for name, read in readers.items():
        try:
            values.append(read(body[name]))
        except BadMessage as error:
            raise BadMessage(f"{cls.__name__}.{name}: {error}") from None
    return cls(*values)


def parse(cls: type[M], text: bytes) -> M:
    """The message of class ``cls`` in JSON ``text``. Raises ``BadMessage``."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"{cls.__name__}: {error}") from None
    return decode(cls, body)


def render(message: Any) -> bytes:
    """``message`` as the JSON text that ``parse`` takes."""
    return json.dumps(encode(message)).encode("ascii")


def prepare(*classes: type) -> None:
    """Resolve the annotations of ``classes`` now, so that no process forked later has to."""
    for cls in classes:
        _readers(cls)


def _difference(found: Any, expected: Any) -> str:
    missing, unknown = sorted(expected - found), sorted(found - expected)
    return f"{missing[0]} is missing" if missing else f"{unknown[0][:100]!r} is unknown"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return encode(value)


_resolved: dict[type, dict[str, Reader]] = {}


def _readers(cls: type[Any]) -> dict[str, Reader]:
    """The reader of each field, in the order of the class's arguments; resolved once for each class."""
    readers = _resolved.get(cls)
    if readers is None:
        hints = get_type_hints(cls, include_extras=True)
        readers = _resolved[cls] = {field.name: _reader(hints[field.name]) for field in fields(cls)}
    return readers


def _reader(annotation: Any) -> Reader:
    if compound := _COMPOUNDS.get(get_origin(annotation)):
        return compound(get_args(annotation))
    if isinstance(annotation, type) and is_dataclass(annotation):
        return partial(decode, annotation)
    return _scalar(annotation)


def _scalar(cls: type) -> Reader:
    if cls not in (bool, str):
        raise TypeError(f"a message cannot carry {cls!r}")

    def read(value: Any) -> Any:
        if type(value) is cls:
            return value
        raise BadMessage(f"{type(value).__name__} where {cls.__name__} is due")

    return read


def _in_range(args: tuple[Any, ...]) -> Reader:
    """INVARIANT: a number is compared before it is converted: JSON can carry NaN, and an int that no float holds."""
    cls, (least, most) = args
    exact = (int, float) if cls is float else (int,)  # JSON may write a whole float as an int

    def read(value: Any) -> Any:
        if type(value) in exact and least <= value <= most:
            return cls(value)
        raise BadMessage(f"not {cls.__name__} from {least:g} to {most:g}")

    return read


def _one_of(options: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if value in options:
            return value
        raise BadMessage(f"not one of {', '.join(map(str, options))}")

    return read


def _optional(args: tuple[Any, ...]) -> Reader:
    """``None`` or the one other type."""
    (only,) = (arg for arg in args if arg is not types.NoneType)
    read = _reader(only)
    return lambda value: None if value is None else read(value)


def _tuple(args: tuple[Any, ...]) -> Reader:
    if args[1:] == (...,):
        read_each = _reader(args[0])
        return lambda value: tuple([read_each(item) for item in _listed(value)])
    readers = [_reader(arg) for arg in args]

    def read(value: Any) -> Any:
        if len(_listed(value)) != len(readers):
            raise BadMessage(f"{len(value)} items where {len(readers)} are due")
        return tuple([read_item(item) for read_item, item in zip(readers, value, strict=True)])

    return read


def _listed(value: Any) -> list[Any]:
    if type(value) is list:
        return value
    raise BadMessage(f"{type(value).__name__} where a list is due")


def _mapping(args: tuple[Any, ...]) -> Reader:
    read_item = _reader(args[1])

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise BadMessage(f"{type(value).__name__} where an object is due")
        return {key: read_item(item) for key, item in value.items()}

    return read


_COMPOUNDS: dict[Any, Callable[[tuple[Any, ...]], Reader]] = {
    Annotated: _in_range,
    Literal: _one_of,
    Union: _optional,
    types.UnionType: _optional,
    tuple: _tuple,
    Mapping: _mapping,
}
"""By what an annotation is made with: takes what stands in its brackets."""
