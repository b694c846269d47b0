"""The limits of an execution without its kernel: what is set for the worker."""

import resource
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from codex_server.sandboxes.guest.boundary import PidNamespace
from codex_server.sandboxes.guest.bounds import Bounds
from codex_server.sandboxes.guest.landlock_boundary import LandlockBoundary
from codex_server.sandboxes.protocol.launch import LandlockSetup
from tests.sandboxes.executions import RUN_ORDER, SETUP

LIMITS = {
    resource.RLIMIT_CPU: (9, 10),
    resource.RLIMIT_FSIZE: (2**20, 2**20),
    resource.RLIMIT_NPROC: (8, 8),
    resource.RLIMIT_DATA: (2**26, 2**26),
}


class ProcessTree:
    """A worker that runs until the test says otherwise."""

    def __init__(self) -> None:
        self.worker = 7
        self.status: int | None = None
        self.watched: list[int] = []
        self.cpu_seconds = 0.0

    def look(self) -> None:
        pass


class Boundary(PidNamespace):
    """Boundary around nobody, which note the limits."""

    def __init__(self) -> None:
        self.limits: dict[int, tuple[int, int]] = {}

    def limit(self, worker: int, limits: dict[int, tuple[int, int]]) -> None:
        assert worker == 7
        self.limits = limits

    def members(self) -> Iterator[int]:
        return iter(())


@pytest.fixture
def bounds() -> Any:
    return bounds_of()


def bounds_of(**setup: Any) -> Any:
    return Bounds(replace(SETUP, **setup), Boundary(), ProcessTree())  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", LIMITS, ids=["CPU", "FSIZE", "NPROC", "DATA"])
def test_each_limit_of_an_execution_is_set(bounds, limit):
    bounds.begin(RUN_ORDER)
    assert bounds._boundary.limits[limit] == LIMITS[limit]


def test_no_limit_of_an_execution_is_unknown_here(bounds):
    bounds.begin(RUN_ORDER)
    assert bounds._boundary.limits.keys() == LIMITS.keys()


@pytest.mark.parametrize(("setup", "order"), [({"cgroups": True}, {}), ({}, {"data_limit": False})])
def test_data_is_limited_only_where_no_cgroup_counts_and_the_program_can_bear_it(setup, order):
    bounds = bounds_of(**setup)
    bounds.begin(replace(RUN_ORDER, **order))
    assert bounds._boundary.limits.keys() == LIMITS.keys() - {resource.RLIMIT_DATA}


@pytest.mark.parametrize(
    ("cgroups", "file_bytes", "expected"),
    [
        (True, 2**22 - 1, 2**22 - 1),
        (False, 2**22 - 1, 2**22 - 1),
        (True, 2**22, 2**62),
        (False, 2**22, 2**26),
        (False, 2**27, 2**27),
    ],
)
def test_a_limit_on_files_that_is_no_tighter_than_the_workspace_does_not_bind_what_is_memory(
    cgroups, file_bytes, expected
):
    bounds = bounds_of(cgroups=cgroups)
    bounds.begin(replace(RUN_ORDER, file_bytes=file_bytes))
    assert bounds._boundary.limits[resource.RLIMIT_FSIZE] == (expected, expected)


@pytest.mark.parametrize("seconds", [1, 1.5, 2])
def test_the_kernels_own_limit_of_processor_time_comes_a_second_after_inits_watch_at_most_two(bounds, seconds):
    bounds.begin(replace(RUN_ORDER, cpu_seconds=seconds))
    soft, hard = bounds._boundary.limits[resource.RLIMIT_CPU]
    assert 1 <= soft - seconds < 2
    assert hard == soft + 1


@pytest.mark.parametrize("boundary", [PidNamespace(), LandlockBoundary(LandlockSetup((), ()), 0, own_uid=False)])
def test_a_boundary_sets_every_limit_on_the_worker_and_none_on_itself(boundary):
    names = [*LIMITS, resource.RLIMIT_CORE]
    before = {limit: resource.getrlimit(limit) for limit in names}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        boundary.limit(process.pid, LIMITS | {resource.RLIMIT_CORE: (0, 0)})
        found = {limit: resource.prlimit(process.pid, limit) for limit in names}
    assert found == LIMITS | {resource.RLIMIT_CORE: (0, 0)}
    assert {limit: resource.getrlimit(limit) for limit in names} == before
