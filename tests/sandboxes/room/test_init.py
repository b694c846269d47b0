"""The slot's init without its kernel: the limits that it sets for an execution, and when it looks at them."""

import resource
import select
import socket
import subprocess
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from codex_server.sandboxes.room import init as module
from codex_server.sandboxes.room.init import Init
from codex_server.sandboxes.room.walls import LandlockWalls, PidNamespace

SETUP = {"namespaces": False, "cgroups": False, "process_margin": 3, "uid_per_slot": False}
BODY = {"cpu_seconds": 7.5, "file_bytes": 2**20, "processes": 5, "memory_bytes": 2**26, "data_limit": True}
LIMITS = {
    resource.RLIMIT_CPU: (9, 10),
    resource.RLIMIT_FSIZE: (2**20, 2**20),
    resource.RLIMIT_NPROC: (8, 8),
    resource.RLIMIT_DATA: (2**26, 2**26),
}


class Family:
    """A worker that runs until the test says otherwise."""

    def __init__(self, walls: object) -> None:
        self.worker = 7
        self.status: int | None = None
        self.watched: list[int] = []
        self.cpu_seconds = 0.0

    def look(self) -> None:
        pass


class Walls(PidNamespace):
    """Walls around nobody, which note the limits."""

    def __init__(self) -> None:
        self.limits: dict[int, tuple[int, int]] = {}

    def limit(self, worker: int, limits: dict[int, tuple[int, int]]) -> None:
        assert worker == 7
        self.limits = limits

    def members(self) -> Iterator[int]:
        return iter(())


class Poll:
    """Waits in no time: the clock goes on by as much, or less where something happens after ``busy`` seconds."""

    def __init__(self, busy: float | None = None) -> None:
        self.now = 1000.0
        self._busy = busy

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        if self._busy is None or milliseconds / 1000 <= self._busy:
            self.now += milliseconds / 1000
            return []
        self.now += self._busy
        return [(99, select.POLLIN)]


@pytest.fixture
def init(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(module, "Family", Family)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Init(dict(SETUP), ModuleType("agent"), {}, ours, [], walls=Walls())  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", LIMITS, ids=["CPU", "FSIZE", "NPROC", "DATA"])
def test_each_limit_of_an_execution_is_set(init, limit):
    init._set_limits(BODY)
    assert init._walls.limits[limit] == LIMITS[limit]


def test_no_limit_of_an_execution_is_unknown_here(init):
    init._set_limits(BODY)
    assert init._walls.limits.keys() == LIMITS.keys()


@pytest.mark.parametrize(("setup", "body"), [({"cgroups": True}, {}), ({}, {"data_limit": False})])
def test_data_is_limited_only_where_no_cgroup_counts_and_the_program_can_bear_it(init, setup, body):
    init._setup.update(setup)
    init._set_limits(BODY | body)
    assert init._walls.limits.keys() == LIMITS.keys() - {resource.RLIMIT_DATA}


@pytest.mark.parametrize("seconds", [1, 1.5, 2])
def test_the_kernels_own_limit_of_processor_time_comes_a_second_after_inits_watch_at_most_two(init, seconds):
    init._set_limits(BODY | {"cpu_seconds": seconds})
    soft, hard = init._walls.limits[resource.RLIMIT_CPU]
    assert 1 <= soft - seconds < 2
    assert hard == soft + 1


@pytest.mark.parametrize("walls", [PidNamespace(), LandlockWalls(SETUP, {"uid": 0, "folder": "/nowhere"})])
def test_walls_set_every_limit_on_the_worker_and_none_on_themselves(walls):
    names = [*LIMITS, resource.RLIMIT_CORE]
    before = {limit: resource.getrlimit(limit) for limit in names}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        walls.limit(process.pid, LIMITS | {resource.RLIMIT_CORE: (0, 0)})
        found = {limit: resource.prlimit(process.pid, limit) for limit in names}
    assert found == LIMITS | {resource.RLIMIT_CORE: (0, 0)}
    assert {limit: resource.getrlimit(limit) for limit in names} == before


@pytest.mark.parametrize("busy", [None, 0.03], ids=["quiet", "busy"])
def test_the_limits_are_looked_at_ten_times_a_second_however_much_happens(init, busy, monkeypatch):
    poll, looks = Poll(busy), list[float]()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: poll.now))

    def passed_limit(_: object) -> str | None:
        looks.append(poll.now - 1000)
        return "memory" if len(looks) == 5 else None

    init._poll, init._passed_limit = poll, passed_limit
    init._watch(BODY)
    assert init._stop == "memory"
    assert looks == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
