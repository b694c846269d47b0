"""What every test shares: one event loop, settings that this machine cannot colour, and the languages of the fake."""

import os

import hypothesis
import pytest

from codex_server.languages import Languages
from codex_server.sandboxes.fake import fake_languages

pytest.register_assert_rewrite("tests.contract.case")

hypothesis.settings.register_profile("suite", deadline=None)  # a busy machine is not a wrong answer
hypothesis.settings.load_profile("suite")

_FOR_THE_SUITE = "CODEX_REQUIRE_LEVELS"
"""The suite's own variable: backends and levels that must not be skipped."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the person who runs the tests must not change what is tested."""
    for name in list(os.environ):
        if name.startswith("CODEX_") and name != _FOR_THE_SUITE:
            monkeypatch.delenv(name)
    monkeypatch.setenv("CODEX_DATA_PACKAGES", "false")  # a server that a test starts must not install any


@pytest.fixture
def languages() -> Languages:
    return fake_languages()
