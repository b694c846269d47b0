"""The decoder of messages: what was encoded comes back, and whatever is not exactly a message is refused."""

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.sandboxes.protocol import frames, launch, run, slot
from codex_server.sandboxes.protocol.codec import BadMessage, decode, encode, parse, render
from codex_server.sandboxes.protocol.stdio import StdioOrder
from tests.sandboxes.executions import RUN_ORDER, SETUP

MESSAGES = sorted(
    {
        cls
        for module in (launch, run, slot)
        for cls in vars(module).values()
        if dataclasses.is_dataclass(cls) and isinstance(cls, type)
    },
    key=lambda cls: cls.__name__,
)
NAMES = st.text(max_size=8)


def messages(cls: type) -> st.SearchStrategy[Any]:
    """Any message of class ``cls``."""
    hints = get_type_hints(cls, include_extras=True)
    return st.builds(cls, **{name: values(hint) for name, hint in hints.items()})


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value that a field with the annotation ``hint`` may have."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return messages(hint)
    return MADE_OF[get_origin(hint) or hint](get_args(hint))


def numbers(args: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    kind, (least, most) = args
    return st.floats(least, most) if kind is float else st.integers(int(least), int(most))


def optional(args: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    return st.none() | values(args[0])


def rows(args: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if args[1:] == (...,):
        return st.lists(values(args[0]), max_size=3).map(tuple)
    return st.tuples(*map(values, args))


MADE_OF: dict[Any, Callable[[tuple[Any, ...]], st.SearchStrategy[Any]]] = {
    str: lambda _: NAMES,
    bool: lambda _: st.booleans(),
    Annotated: numbers,
    Literal: st.sampled_from,
    Union: optional,
    types.UnionType: optional,
    tuple: rows,
    Mapping: lambda args: st.dictionaries(NAMES, values(args[1]), max_size=3),
}
BODIES = st.sampled_from(MESSAGES).flatmap(messages)


def sent(message: Any) -> Any:
    """The body of ``message`` as the other side has it."""
    return frames.decode(frames.encode(frames.Kind.RUN, encode(message)))[1]


@given(BODIES)
def test_a_message_comes_back_as_it_was_sent(message):
    assert decode(type(message), sent(message)) == message
    assert parse(type(message), render(message)) == message


@given(BODIES, st.data())
def test_a_body_without_one_of_its_fields_is_refused_by_name(message, data):
    body = sent(message)
    if body:
        name = data.draw(st.sampled_from(sorted(body)))
        del body[name]
        with pytest.raises(BadMessage, match=f"{type(message).__name__}: {name} is missing"):
            decode(type(message), body)


@given(BODIES, st.text(max_size=8))
def test_a_body_with_a_field_of_its_own_is_refused(message, name):
    body = sent(message)
    if name not in body:
        with pytest.raises(BadMessage, match="is unknown"):
            decode(type(message), body | {name: None})


def spoilt(value: Any) -> list[Any]:
    """Values of every JSON type but that of ``value``, which may also be absent from a field that knows None."""
    others: list[Any] = [True, 7, -1, 0.5, "spoilt", ["spoilt", {}], {"spoilt": []}, math.nan, 10**400]
    return [other for other in others if type(other) is not type(value)]


@given(BODIES, st.data())
def test_a_field_of_another_type_is_refused_by_name(message, data):
    body = sent(message)
    kept = sorted(name for name, value in body.items() if value is not None)
    if not kept:
        return
    name = data.draw(st.sampled_from(kept))
    wrong = data.draw(st.sampled_from(spoilt(body[name])))
    if type(body[name]) is float and wrong == 7:  # JSON writes a whole float so
        return
    with pytest.raises(BadMessage, match=f"^{type(message).__name__}.{name}: "):
        decode(type(message), body | {name: wrong})


@pytest.mark.parametrize("body", [None, [], "x", 3, True])
@pytest.mark.parametrize("cls", [run.RunOrder, slot.SlotReady])
def test_what_is_no_object_is_no_message(cls, body):
    with pytest.raises(BadMessage, match="not an object"):
        decode(cls, body)


@pytest.mark.parametrize("value", [-1, 2**53 + 1, True, 7.0, "7", None, math.nan])
def test_a_count_is_a_whole_number_in_its_range(value):
    with pytest.raises(BadMessage, match=r"RunOrder\.processes: not int from 0 to"):
        decode(run.RunOrder, sent(RUN_ORDER) | {"processes": value})


def test_whole_seconds_are_seconds():
    order = decode(run.RunOrder, sent(RUN_ORDER) | {"cpu_seconds": 3})
    assert type(order.cpu_seconds) is float
    assert order.cpu_seconds == 3


def test_a_fault_within_a_message_is_named_with_its_whole_path():
    body = sent(launch.ContainerLaunch(SETUP, None, {}, StdioOrder(merged=False, terminal=None)))
    body["setup"]["preload"] = ["numpy", 3]
    with pytest.raises(BadMessage, match=r"ContainerLaunch\.setup: SlotSetup\.preload: int where str is due"):
        decode(launch.ContainerLaunch, body)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_text_that_is_no_message_is_refused(text):
    with pytest.raises(BadMessage):
        parse(run.WorkerRequest, text)


def test_a_bad_message_is_a_bad_frame():
    assert issubclass(BadMessage, frames.BadFrame)


def test_a_message_cannot_be_changed_and_has_no_other_attribute():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RUN_ORDER.processes = 7  # type: ignore[misc]
    assert all(not hasattr(cls, "__dict__") or "__slots__" in vars(cls) for cls in MESSAGES)


def test_a_class_with_an_annotation_that_no_body_can_hold_is_refused():
    @dataclasses.dataclass(frozen=True, slots=True)
    class Wrong:
        what: bytes

    with pytest.raises(TypeError, match="cannot carry"):
        decode(Wrong, {"what": json.dumps("")})
