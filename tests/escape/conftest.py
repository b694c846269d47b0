"""Harnesses for guests, one for each isolation level that this host allows, and the proof that tests leave nothing.

A test takes ``harness`` and runs once at each level of its ``levels`` mark (all, without one) that its tier has. What
the host cannot offer is a skip that names the cause; ``CODEX_REQUIRE_LEVELS=full,namespaces`` makes it a failure.

After each test the next guest must be right. What is left on the host is counted at the end of each module, and in the
nightly tier after each test, so that the test is named.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from codex_server.errors import StartupError
from codex_server.languages import Languages, load_languages
from codex_server.sandboxes.base import IsolationLevel
from tests.engine import built_images
from tests.escape.sandbox_harness import ContainerHouse, Host, SandboxHarness
from tests.host_snapshot import HostSnapshot, assert_clean_since
from tests.levels import LEVELS, out_of_reach
from tests.tiers import TIER, Tier, in_tier, tier_of_level

CONTAINER = "docker"
"""The level, so to say, of the other backend: it promises all that ``full`` does."""
HOST_GROUPS = (4, 6, 42)
"""Further groups of a server that root starts: on Debian those of logs, disks and passwords."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "levels(*names): the isolation levels at which the promise holds")
    config.addinivalue_line("markers", "embedded: about the embedded backend's own parts")
    config.addinivalue_line("markers", "inside: about what both backends share; in containers one row of it is enough")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "level" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("levels")
        levels = mark.args if mark else LEVELS
        everywhere = "full" in levels and metafunc.definition.get_closest_marker("embedded") is None
        levels = (*levels, CONTAINER) if everywhere else levels
        metafunc.parametrize("level", [in_tier(tier_of_level(level), level) for level in levels])


@pytest.fixture(scope="session")
def runner(temporary_folder: Path) -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        runner.get_loop()
        yield runner


@pytest.fixture(scope="session")
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where everything temporary of this session goes, so that nothing of others is counted."""
    tmp_path_factory.getbasetemp()  # pytest's own folder stays where it is
    folder = Path(tempfile.mkdtemp(prefix="codex-escape-"))
    folder.chmod(0o711)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    yield folder
    tempfile.tempdir = before
    folder.rmdir()


@pytest.fixture(scope="session")
def languages() -> Languages:
    return load_languages()


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The baits; they stand before any backend starts, so that all of it could be inherited."""
    before, groups = dict(os.environ), os.getgroups()
    if os.geteuid() == 0:
        os.setgroups(HOST_GROUPS)  # where they may read more than others
    host = Host(tmp_path_factory.mktemp("host"))
    for folder in list(host.folder.parents)[:-2]:
        folder.chmod(0o755)
    yield host
    host.close()
    os.environ.clear()
    os.environ.update(before)
    if os.geteuid() == 0:
        os.setgroups(groups)


class Harnesses:
    """Opens each level's harness when it is first asked for."""

    def __init__(self, runner: asyncio.Runner, languages: Languages, state: Path, closing: ExitStack) -> None:
        self._runner, self._languages, self._state, self._closing = runner, languages, state, closing
        self._engine_runner = closing.enter_context(asyncio.Runner())
        """The other backend's own: its sweep, by a timer, may not open connections while others are counted."""
        self._template: str | None = None
        self._known: dict[str, SandboxHarness | str] = {}
        self._counted: HostSnapshot | None = None

    def at(self, level: str) -> SandboxHarness:
        """The harness of that level, or a skip that says why there is none."""
        if level not in self._known:
            self._known[level] = self._open(level)
            self.count()
        harness = self._known[level]
        if isinstance(harness, SandboxHarness):
            return harness
        out_of_reach(level, harness)

    def count(self) -> None:
        """Take the snapshot that ``assert_nothing_left`` compares with."""
        self._settle()
        self._counted = HostSnapshot.take()

    def assert_nothing_left(self) -> None:
        """The host is as it was at the last ``count``."""
        assert self._counted
        self._settle()
        assert_clean_since(self._counted)

    def _settle(self) -> None:
        for harness in self._known.values():
            if isinstance(harness, SandboxHarness):
                harness.settle()

    def _images(self) -> str:
        self._template = self._template or built_images(self._languages, "escape")
        return self._template

    def _open(self, level: str) -> SandboxHarness | str:
        harness = self.new(level)
        try:
            harness.open()
        except StartupError as error:
            return str(error)
        self._closing.callback(harness.close)
        return harness

    def new(self, level: str, **settings: object) -> SandboxHarness:
        """Another harness, not yet open."""
        if level == CONTAINER:
            settings |= {"docker_image": self._images(), "state_dir": self._state}
            return ContainerHouse(self._engine_runner, self._languages, **settings)
        return SandboxHarness(self._runner, self._languages, IsolationLevel[level.upper()], **settings)


@pytest.fixture(scope="session")
def harnesses(
    runner: asyncio.Runner, languages: Languages, host: Host, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Harnesses]:
    with ExitStack() as closing:
        yield Harnesses(runner, languages, tmp_path_factory.mktemp("state"), closing)


@pytest.fixture(scope="module", autouse=True)
def nothing_left(harnesses: Harnesses) -> Iterator[None]:
    """When the module's tests have run, the host is as it was."""
    harnesses.count()
    yield
    harnesses.assert_nothing_left()


@pytest.fixture
def harness(harnesses: Harnesses, host: Host, level: str) -> Iterator[SandboxHarness]:
    """An open harness, whose next guest comes into a slot that had one before, where the level keeps slots.

    After the test the next execution, in the slot that the test's program had, is right.
    """
    harness = harnesses.at(level)
    if TIER is Tier.NIGHTLY:
        harnesses.count()
    first_of_its_harness = harness.last_slot is None and not harness.in_container
    if first_of_its_harness or TIER is Tier.NIGHTLY:
        _prove_right(harness)
    yield harness
    if not harness.in_container or TIER is Tier.NIGHTLY:  # a container serves once: the next test's proves as much
        _prove_right(harness)
    assert host.victim.poll() is None
    assert host.knocks == []
    assert host.secret_file.read_text() == host.SECRET
    if TIER is Tier.NIGHTLY:
        harnesses.assert_nothing_left()


def _prove_right(harness: SandboxHarness) -> None:
    """A guest finds nothing of the one before, hears its own input, and leaves a trace for the next one to miss."""
    seen = harness.python(
        """
        left = os.environ["TMPDIR"] + "/left"
        print(6 * 7, sorted(os.listdir()), os.path.exists(left), sys.stdin.read())
        open(left, "w").write("by the guest before")
        """,
        stdin=b"heard",
    )
    assert (seen.status, seen.stdout, seen.stderr) == ("succeeded", "42 ['main.py'] False heard\n", "")
