"""The server's image, built from the checkout, and the server in a container of it.

Where there is no engine, the tests are named skips; ``CODEX_REQUIRE_LEVELS=container`` makes them failures.
"""

import secrets
from collections.abc import Iterator

import pytest

from tests.container.engine import Engine, RunningServer, find_engine, running_server
from tests.levels import out_of_reach


@pytest.fixture(scope="session")
def engine() -> Engine:
    try:
        return find_engine()
    except LookupError as missing:
        out_of_reach("container", missing)


@pytest.fixture(scope="session")
def image(engine: Engine) -> Iterator[str]:
    tag = f"codex-server-tests:{secrets.token_hex(4)}"
    yield engine.build(tag)
    engine.call("rmi", "--force", tag)


@pytest.fixture
def name() -> str:
    return f"codex-tests-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def server(engine: Engine, image: str) -> Iterator[RunningServer]:
    """One for all tests that leave it as it is."""
    with running_server(engine, image, f"codex-tests-{secrets.token_hex(4)}") as here:
        yield here
