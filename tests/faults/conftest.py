"""Each test runs at every isolation level that this host allows."""

import pytest

LEVELS = ("full", "namespaces", "confined")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "level" in metafunc.fixturenames:
        metafunc.parametrize("level", LEVELS)
