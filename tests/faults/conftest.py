"""Each test runs at the isolation levels of its tier."""

import pytest

from tests.levels import LEVELS
from tests.tiers import in_tier, tier_of_load


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "level" in metafunc.fixturenames:
        metafunc.parametrize("level", [in_tier(tier_of_load(level), level) for level in LEVELS])
