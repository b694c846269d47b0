"""What every test shares: its tier and its worker, settings that this machine cannot colour, the fake's languages."""

import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from codex_server import languages as languages_module
from codex_server.access import moments
from codex_server.languages import Languages
from codex_server.sandboxes.testing.fake import fake_languages
from tests import levels
from tests.tiers import TIER, Tier

pytest.register_assert_rewrite("tests.contract.case")

_TESTS = Path(__file__).parent
_REAL_SANDBOXES = frozenset({"harness", "level"})
"""Fixtures behind which programs run in real sandboxes."""

# A busy machine is not a wrong answer: no deadlines.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=30)
hypothesis.settings.register_profile("change", deadline=None)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(TIER)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "tier(name): the smallest tier that the test runs in: change or nightly")
    config.addinivalue_line("markers", "unprivileged: what an unprivileged user's account, too, must show")
    config.addinivalue_line("markers", "needs(name, reachable, reason): made by tests.levels.needs")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell that starts a command in the background has it ignored, and so would every program that a test starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        levels.required()
    except ValueError as error:
        raise pytest.UsageError(error) from error


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        name, reachable, reason = mark.args
        if not reachable:
            levels.out_of_reach(name, reason)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if _REAL_SANDBOXES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.unprivileged)
        if os.environ.get("PYTEST_XDIST_WORKER"):
            # The scheduler reads the group at the end of the id. `xdist_group` would write it there, but pytest-xdist
            # 3.8 sets an attribute that pytest 9.2 does not read any more: tests of one group were spread.
            named = item.get_closest_marker("xdist_group")
            group = named.args[0] if named else _group_of(item)
            item._id = type(item._id).parse(f"{item.nodeid}@{group}")
    left_out = [item for item in items if not TIER.holds(_tier_of(item))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if TIER.holds(_tier_of(item))]


def _tier_of(item: pytest.Item) -> Tier:
    """The largest that its marks name; in containers, of a test about the shared inside, all rows but one by night."""
    marks = [Tier(mark.args[0]) for mark in item.iter_markers("tier")]
    given = getattr(item, "callspec", None)
    if given and given.params.get("level") == "docker" and item.get_closest_marker("inside"):
        rows = {name: index for name, index in given.indices.items() if name != "level"}
        marks += [Tier.NIGHTLY] if any(rows.values()) else []
    return max(marks, key=list(Tier).index, default=Tier.QUICK)


def _group_of(item: pytest.Item) -> str:
    """Tests of one group run on one worker: those that share a backend, an engine, or what their module has made.

    Without root, guests at ``confined`` share one id, and the kernel counts all its processes against each one's limit:
    they take turns, also with the floods of the level above.
    """
    given = getattr(item, "callspec", None)
    place = given and str(given.params.get("harness") or given.params.get("level") or "").removeprefix("embedded-")
    if place == "docker":
        return "docker"
    if place and os.geteuid() != 0 and (place == "confined" or item.path.name == "test_bounds.py"):
        return "confined"
    if place and item.path.parent != _TESTS / "faults":
        return f"{item.path.parent.name}-{place}"
    return str(item.path.relative_to(_TESTS).with_suffix(""))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def versions_asked_once() -> Iterator[None]:
    """Interpreters do not change while the suite runs: each is started once to ask for its version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(languages_module, "_probe_version", functools.cache(languages_module._probe_version))
        yield


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the person who runs the tests must not change what is tested."""
    for name in list(os.environ):
        if name.startswith("CODEX_") and name != levels.VARIABLE:
            monkeypatch.delenv(name)
    monkeypatch.setenv("CODEX_DATA_PACKAGES", "false")  # a server that a test starts must not install any


@pytest.fixture
def languages() -> Languages:
    return fake_languages()


class Clock:
    """A monotonic clock that stands still until it is shifted."""

    def __init__(self) -> None:
        self._seconds = 1_000.0

    def __call__(self) -> float:
        return self._seconds

    def shift(self, seconds: float) -> None:
        self._seconds += seconds


@pytest.fixture
def limiter_clock(monkeypatch) -> Clock:
    """The clock that the rate limiter tells time by."""
    clock = Clock()
    monkeypatch.setattr(moments, "monotonic", clock)
    return clock
