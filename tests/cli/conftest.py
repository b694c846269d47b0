import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No CODEX_ variable of the caller, no codex.toml, a state folder of its own."""
    for name in [name for name in os.environ if name.upper().startswith("CODEX_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CODEX_DATA_PACKAGES", "false")  # a server that a test starts must not install any
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.chdir(tmp_path_factory.mktemp("folder"))
    return iter(())
