"""The levels of isolation that tests run at, and what becomes of a test whose level this machine cannot offer."""

import os
from typing import NoReturn

import pytest

LEVELS = ("full", "namespaces", "confined")
"""Of the embedded back end, from the strongest to the weakest."""


def out_of_reach(level: str, reason: object) -> NoReturn:
    """Skip the test, or fail it where ``CODEX_REQUIRE_LEVELS`` names the level: one of ``LEVELS``, docker, container.

    The reason is put on one line, and ``.ci/run`` looks for the words before it, when it lists what was skipped.
    """
    message = f"level {level} is out of reach here: {' '.join(str(reason).split())}"
    if level in os.environ.get("CODEX_REQUIRE_LEVELS", "").split(","):
        pytest.fail(message)
    pytest.skip(message)
