"""``service/cell_results.py``: whatever an interpreter claims, the response can be written and read."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.limits import Limits
from codex_server.model import Captured, CellFacts, Ending, Outcome, SessionState
from codex_server.service.cell_results import readable_result
from codex_server.service.response import build_response
from codex_server.service.truncation import encode

ANY_TEXT = st.text(st.characters(codec=None))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=20,
)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def response(result):
    ending = Ending(0, None, datetime(2026, 1, 1, tzinfo=UTC), 0.1, None, None, cell=CellFacts(1, result, True, False))
    state = SessionState("ses_1", None)
    return build_response(Outcome("exe_1", ending, Captured(), Captured(), 0.0, Limits(), state), None)


@given(st.none() | st.dictionaries(ANY_TEXT, ANYTHING))
def test_whatever_is_claimed_can_be_written_as_json(claimed):
    shown = json.loads(encode(response(claimed)))["result"]
    assert shown is None or shown == json.loads(json.dumps(readable_result(claimed)))


@pytest.mark.parametrize(
    ("claimed", "read"),
    [
        ({"text/plain": "1", "text/html": "<b>1</b>"}, {"text/plain": "1", "text/html": "<b>1</b>"}),
        ({"text/plain": 1, "image/png": ["x"]}, None),
        ({"application/json": {"a": [1, None]}}, {"application/json": {"a": [1, None]}}),
        ({"application/json": {"a": float("nan")}}, {"application/json": {"a": None}}),
        ({"application/json": nested(300)}, None),
        ({"text/plain": "a\ud800"}, {"text/plain": "a?"}),
        ({"x" * 200: "too long a name"}, None),
        ({}, None),
        (None, None),
    ],
    ids=repr,
)
def test_only_what_is_of_its_type_is_a_result(claimed, read):
    assert readable_result(claimed) == read


def test_only_so_many_forms_are_read():
    assert len(readable_result({f"text/{number}": "x" for number in range(100)})) == 20
