"""Each test runs at the isolation levels of its tier, in a temporary folder of its own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host_snapshot import HostSnapshot, assert_clean_since
from tests.levels import LEVELS
from tests.tiers import in_tier, tier_of_load


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "level" in metafunc.fixturenames:
        metafunc.parametrize("level", [in_tier(tier_of_load(level), level) for level in LEVELS])


@pytest.fixture
def clean_host(tmp_path: Path) -> Iterator[Path]:
    """A folder for state; after the test, when its server is closed, the host is as it was."""
    folder = Path(tempfile.mkdtemp(prefix="codex-load-"))
    folder.chmod(0o711)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        counted = HostSnapshot.take()
        yield tmp_path / "state"
        assert_clean_since(counted)
    finally:
        tempfile.tempdir = before
        folder.rmdir()
