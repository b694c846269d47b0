"""Each test runs at every isolation level that this host allows."""

import pytest

from tests.levels import LEVELS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "level" in metafunc.fixturenames:
        metafunc.parametrize("level", LEVELS)
