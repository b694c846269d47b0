"""The real data packages, installed once below the environment that the tests run in, and each level with them."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_server.errors import StartupError
from codex_server.languages import Languages, load_languages
from codex_server.packages.installation import install_packages
from codex_server.sandboxes.base import IsolationLevel
from codex_server.sandboxes.embedded.backend import EmbeddedBackend
from codex_server.settings import Settings
from tests.contract.harness import Harness
from tests.host_snapshot import next_guest_ids
from tests.levels import LEVELS, out_of_reach

ROOT = Path(sys.prefix) / "data-packages"
INSTALL_SECONDS = 900
"""The first time: some 150 MB come from the registry."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(INSTALL_SECONDS))


@pytest.fixture(scope="session")
def equipped() -> Languages:
    """The shipped languages; Python with its packages."""
    languages = load_languages(packages=ROOT)
    missing = {lang.wanted.folder: lang.wanted for lang in languages if lang.wanted and not lang.packages}
    for wanted in missing.values():
        install_packages(wanted, sys.__stderr__.write)
    return load_languages(packages=ROOT) if missing else languages


@pytest.fixture(scope="module", params=LEVELS)
def harness(request: pytest.FixtureRequest, equipped: Languages) -> Iterator[Harness]:
    """A backend at one level, and an executor on it; a named skip where this machine cannot give it."""
    level: str = request.param
    with pytest.MonkeyPatch.context() as clean:
        for variable in [name for name in os.environ if name.startswith("CODEX_")]:
            clean.delenv(variable)
        settings = Settings(
            min_isolation=level,  # type: ignore[arg-type]
            pool_sizes={"python": 2, "javascript": 0},
            guest_ids=next_guest_ids(),
            max_inline_file=2**20,
            max_response=10**7,
            state_dir=Path("/nonexistent"),
        )
    backend = EmbeddedBackend(settings, equipped, most=IsolationLevel[level.upper()])
    with asyncio.Runner() as runner:
        try:
            runner.run(backend.start())
        except StartupError as error:
            out_of_reach(level, error)
        harness = Harness(f"embedded-{level}", runner, backend, equipped, settings)
        try:
            runner.run(harness.executor.start())
            yield harness
            runner.run(harness.executor.close())
        finally:
            runner.run(backend.close())
