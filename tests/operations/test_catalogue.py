"""Every operation: its words are short enough for every door, and its handler keeps its shapes."""

import re

import pytest
from pydantic import BaseModel

from codex_server.operations.catalogue import CATALOGUE
from codex_server.operations.operation import Effect

OPERATIONS = list(CATALOGUE.values())


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_is_named_and_described_for_every_door(operation):
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation.name)
    assert 0 < len(operation.title) <= 60
    assert 0 < len(operation.summary) <= 300
    assert issubclass(operation.input, BaseModel)
    assert issubclass(operation.output, BaseModel)


def test_each_stands_under_its_own_name():
    assert all(name == operation.name for name, operation in CATALOGUE.items())
    assert {"execute_code", "list_languages"} <= set(CATALOGUE)


def test_only_what_changes_something_outside_of_a_sandbox_lasts():
    assert {effect for effect in Effect if effect.lasts} == {Effect.WRITE, Effect.OUTSIDE}
    assert not any(CATALOGUE[name].effect.lasts for name in ("execute_code", "list_languages"))
