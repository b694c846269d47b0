"""One harness for each backend and level of the tier that this machine can offer.

What it cannot offer is a skip that names the cause; ``CODEX_REQUIRE_LEVELS=full,namespaces`` makes it a failure.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_server.errors import StartupError
from codex_server.languages import Languages, load_languages
from codex_server.sandboxes.base import Backend, IsolationLevel
from codex_server.sandboxes.testing.fake import FakeBackend, fake_languages
from codex_server.settings import Settings
from tests.contract.harness import Harness
from tests.engine import HOST, built_images
from tests.host_snapshot import next_guest_ids
from tests.levels import LEVELS, out_of_reach
from tests.tiers import in_tier, tier_of_level, tier_of_session

REAL = [*(f"embedded-{level}" for level in LEVELS), "docker"]
"""Every harness with real sandboxes."""
PERL = "name: perl\ntitle: Perl\naliases: [pl]\nfile: main.pl\nprogram: perl\n"
_OPTIONS = {
    "max_flood": 4 * 2**20,
    "pool_sizes": {"python": 2, "javascript": 1},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``harness`` and names no backend runs on every real one."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "harness" in metafunc.fixturenames and not any("harness" in mark.args[0] for mark in marks):
        tier_of = tier_of_session if "sessions" in metafunc.module.__name__ else tier_of_level
        rows = [in_tier(tier_of(harness.removeprefix("embedded-")), harness) for harness in REAL]
        metafunc.parametrize("harness", rows, indirect=True)


@pytest.fixture(scope="module")
def real_languages() -> Iterator[Languages]:
    """The shipped runners, and a folder beside them that is a language with no Python at all."""
    # Not in pytest's own temporary folder: guests must be able to read it, and pytest closes that to others.
    with tempfile.TemporaryDirectory(prefix="codex-runners-") as extra:
        perl = Path(extra) / "perl"
        perl.mkdir()
        (perl / "runner.yaml").write_text(PERL, encoding="utf-8")
        for part in (perl.parent, perl, perl / "runner.yaml"):
            part.chmod(0o755)
        yield load_languages(perl.parent)


@pytest.fixture(scope="module")
def harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    name: str = request.param
    # The settings are read when the harness is built: for a module, before the fixture that clears them for each test.
    with pytest.MonkeyPatch.context() as clean, asyncio.Runner() as runner:
        for variable in [name for name in os.environ if name.startswith("CODEX_") and name != "CODEX_REQUIRE_LEVELS"]:
            clean.delenv(variable)
        clean.setenv("CANARY_OF_THE_HOST", "it sang")
        clean.setenv("CODEX_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        yield from _stage(name, runner, request)


def _stage(name: str, runner: asyncio.Runner, request: pytest.FixtureRequest) -> Iterator[Harness]:
    level = name.partition("-")[2]
    given: dict[str, Any] = _OPTIONS | {"guest_ids": next_guest_ids()}
    backend: Backend
    if name == "fake":
        languages, settings = fake_languages(), Settings(**given)
        backend = FakeBackend()
    elif name == "docker":
        from codex_server.sandboxes.docker.backend import DockerBackend

        languages = request.getfixturevalue("real_languages")
        pools = {"python": 2, "javascript": 1, "bash": 1}
        given |= {"pool_sizes": pools, "queue_seconds": 120.0}  # a container takes a while to be made
        settings = Settings(docker_image=built_images(languages, "contract"), docker_host=HOST, **given)
        backend = DockerBackend(settings, languages)
    else:
        from codex_server.sandboxes.embedded.backend import EmbeddedBackend

        languages = request.getfixturevalue("real_languages")
        settings = Settings(min_isolation=level, **given)  # type: ignore[arg-type]
        backend = EmbeddedBackend(settings, languages, most=IsolationLevel[level.upper()])
    try:
        runner.run(backend.start())
    except StartupError as error:
        out_of_reach(level or name, error)
    languages = runner.run(backend.survey(languages))
    harness = Harness(name, runner, backend, languages, settings)
    try:
        runner.run(harness.executor.start())
        yield harness
        runner.run(harness.executor.close())
        if isinstance(backend, FakeBackend):
            assert backend.living == [], "the executor left sandboxes"
    finally:
        runner.run(backend.close())
