"""How much of the suite runs: ``CODEX_TEST_TIER=quick`` before a commit, ``change`` (the default), or ``nightly``.

A test runs in its tier and above: ``@pytest.mark.tier("nightly")``; one without a mark runs in all. Levels of
isolation are crossed where the level is what is tested (``tier_of_level``), and not where it is the server
(``tier_of_load``).
"""

import os
from collections.abc import Iterable
from enum import StrEnum

import pytest
from _pytest.mark import ParameterSet

from tests.levels import LEVELS

VARIABLE = "CODEX_TEST_TIER"
"""The suite's own; read when this module is imported, since no test sees a ``CODEX_`` variable."""


class Tier(StrEnum):
    """From the smallest to the largest; each holds the ones before it."""

    QUICK = "quick"
    """The strongest level alone, no cross products, nothing that installs, builds, floods or kills."""
    CHANGE = "change"
    """All that must hold for a change."""
    NIGHTLY = "nightly"
    """Full lengths and full cross products of level, language and backend."""

    def holds(self, other: "Tier") -> bool:
        """Whether what runs in ``other`` runs in this one too."""
        order = list(Tier)
        return order.index(other) <= order.index(self)


def chosen() -> Tier:
    """The tier that the environment names, ``change`` without one."""
    name = os.environ.get(VARIABLE, Tier.CHANGE)
    if name not in list(Tier):
        raise pytest.UsageError(f"{VARIABLE}: there is no tier {name!r}; there are {', '.join(Tier)}")
    return Tier(name)


TIER = chosen()
_IS_ROOT = os.geteuid() == 0
STRONGEST = LEVELS[0 if _IS_ROOT else 1]
"""What this account can reach at most: without root there are no cgroups of one's own."""


def in_tier(tier: Tier, *values: object, id: str | None = None) -> ParameterSet:
    """A row of a parametrized test that runs in ``tier`` and above."""
    return pytest.param(*values, id=id, marks=[] if tier is Tier.QUICK else [pytest.mark.tier(tier)])


def sampled(names: Iterable[str]) -> list[ParameterSet]:
    """Rows of a long table: one of four in the quick tier, all of them for a change."""
    return [in_tier(Tier.CHANGE if number % 4 else Tier.QUICK, name) for number, name in enumerate(names)]


def tier_of_level(level: str) -> Tier:
    """For tests of what a guest can and cannot do at ``level`` (or ``docker``): each has boundary of its own."""
    return Tier.QUICK if level == STRONGEST else Tier.CHANGE


def tier_of_session(level: str) -> Tier:
    """For what a session keeps at ``level``: root's ``namespaces`` are tried by the run as an unprivileged user."""
    return Tier.NIGHTLY if _IS_ROOT and level == "namespaces" else tier_of_level(level)


def tier_of_load(level: str, *, root: bool = _IS_ROOT) -> Tier:
    """For heavy tests of a server that runs at ``level``: under load, and with its parts killed.

    Root's ``namespaces`` repeats ``full`` without cgroups, and ``confined`` is where an unprivileged user lands: the
    two runs of ``.ci/run`` share the levels.
    """
    return Tier.CHANGE if (level == "full") == root else Tier.NIGHTLY


def examples(change: int) -> int:
    """How many examples a property is tried with, where its profile's number (``tests/conftest.py``) does not fit."""
    return {Tier.QUICK: change // 4, Tier.CHANGE: change, Tier.NIGHTLY: change * 20}[TIER]


def by_tier(*, change: int, nightly: int, variable: str) -> int:
    """A number of repetitions: what the environment's ``variable`` says, else that of the tier."""
    return int(os.environ.get(variable, nightly if TIER is Tier.NIGHTLY else change))
