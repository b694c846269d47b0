"""What is removed and what is not; the engine is a table of containers, in which a test can make it refuse."""

import asyncio
from collections import Counter

import pytest

from codex_server.sandboxes.docker.container import INSTANCE_LABEL, OWNER_LABEL
from codex_server.sandboxes.docker.engine import EngineError, EngineRefused
from codex_server.sandboxes.docker.ownership import Ownership
from codex_server.sandboxes.docker.sweeper import Sweeper

pytestmark = pytest.mark.anyio


class Containers:
    """An engine that only knows how to list and remove."""

    def __init__(self) -> None:
        self.labels: dict[str, dict[str, str]] = {}
        self.kept: set[str] = set()
        self.reachable = True
        self.requested: Counter[str] = Counter()

    async def containers(self, labels: list[str]) -> list[tuple[str, dict[str, str]]]:
        self._reach()
        wanted = dict(label.split("=") for label in labels)
        return [(name, found) for name, found in self.labels.items() if wanted.items() <= found.items()]

    async def remove(self, container: str) -> None:
        self._reach()
        self.requested[container] += 1
        if container in self.kept:
            raise EngineRefused(f"{container} is busy")
        self.labels.pop(container, None)

    def _reach(self) -> None:
        if not self.reachable:
            raise EngineError("the engine cannot be reached")


class Place:
    """A sweeper on a state folder that a second server may share."""

    def __init__(self, mine: Ownership) -> None:
        self.mine = mine
        self.engine = Containers()
        self.sweeper = Sweeper(self.engine, mine)  # type: ignore[arg-type]
        self.gone: list[str] = []

    def put(self, name: str, *, of: Ownership | None = None) -> None:
        owner = of or self.mine
        self.engine.labels[name] = {OWNER_LABEL: owner.owner, INSTANCE_LABEL: owner.instance}

    async def remove(self, name: str) -> None:
        await self.sweeper.remove(name, lambda: self.gone.append(name))

    @property
    def left(self) -> set[str]:
        return set(self.engine.labels)


@pytest.fixture
def place(tmp_path):
    with Ownership(tmp_path) as mine:
        yield Place(mine)


async def test_a_container_that_is_done_with_goes_at_once(place):
    place.put("used")
    place.sweeper.know("used")
    await place.remove("used")
    assert place.left == set()
    assert place.gone == ["used"]


async def test_one_of_a_living_server_on_the_same_folder_stays(place, tmp_path):
    with Ownership(tmp_path) as other:
        place.put("its", of=other)
        for _ in range(3):
            await place.sweeper.sweep()
    assert place.left == {"its"}


async def test_one_of_a_dead_server_goes_at_the_first_look(place, tmp_path):
    with Ownership(tmp_path) as other:
        place.put("its", of=other)
    await place.sweeper.sweep()
    assert place.left == set()


async def test_one_of_another_owner_stays_though_its_server_is_dead(place, tmp_path):
    with Ownership(tmp_path / "elsewhere") as other:
        place.put("its", of=other)
    await place.sweeper.sweep()
    assert place.left == {"its"}


async def test_one_in_use_stays_however_often_it_looks(place):
    place.put("used")
    place.sweeper.know("used")
    for _ in range(3):
        await place.sweeper.sweep()
    assert place.left == {"used"}


async def test_one_that_nobody_knows_goes_at_the_second_look_for_it_may_be_in_the_making(place):
    place.put("stray")
    await place.sweeper.sweep()
    assert place.left == {"stray"}
    await place.sweeper.sweep()
    assert place.left == set()


async def test_one_that_is_known_by_the_second_look_stays(place):
    place.put("made")
    await place.sweeper.sweep()
    place.sweeper.know("made")
    await place.sweeper.sweep()
    assert place.left == {"made"}


async def test_one_that_the_engine_would_not_remove_goes_at_the_next_look_and_is_gone_only_then(place):
    place.put("used")
    place.sweeper.know("used")
    place.engine.reachable = False
    await place.remove("used")
    assert place.gone == []
    with pytest.raises(EngineError):
        await place.sweeper.sweep()
    assert place.gone == []
    place.engine.reachable = True
    await place.sweeper.sweep()
    assert place.left == set()
    assert place.gone == ["used"]
    await place.sweeper.sweep()
    assert place.gone == ["used"]


async def test_one_that_was_left_and_is_gone_by_itself_is_gone(place):
    place.engine.reachable = False
    await place.remove("used")
    place.engine.reachable = True
    await place.sweeper.sweep()
    assert place.gone == ["used"]


async def test_one_that_the_engine_keeps_does_not_keep_the_others(place, tmp_path):
    with Ownership(tmp_path) as other:
        for name in ("a", "b", "c"):
            place.put(name, of=other)
    place.engine.kept = {"a", "b"}
    with pytest.raises(EngineRefused, match="is busy"):
        await place.sweeper.sweep()
    assert place.left == {"a", "b"}
    assert place.engine.requested == {"a": 1, "b": 1, "c": 1}
    place.engine.kept = set()
    await place.sweeper.sweep()
    assert place.left == set()


async def test_an_engine_that_cannot_be_reached_is_not_requested_each_container(place, tmp_path):
    with Ownership(tmp_path) as other:
        place.put("its", of=other)
    place.engine.reachable = False
    with pytest.raises(EngineError):
        await place.sweeper.sweep()
    assert place.left == {"its"}


async def test_closing_removes_every_container_of_this_server_and_no_other(place, tmp_path):
    place.sweeper.start()
    with Ownership(tmp_path) as other:
        place.put("its", of=other)
    place.put("used")
    place.sweeper.know("used")
    place.put("stray")
    await place.sweeper.close()
    assert place.left == {"its"}


async def test_closing_goes_on_where_the_engine_keeps_one_and_where_it_is_gone(place):
    place.put("a")
    place.put("b")
    place.engine.kept = {"a"}
    await place.sweeper.close()
    assert place.left == {"a"}
    place.engine.reachable = False
    await place.sweeper.close()


async def test_it_looks_from_time_to_time_and_goes_on_after_an_engine_that_does_not_answer(place, monkeypatch, caplog):
    monkeypatch.setattr("codex_server.sandboxes.docker.sweeper._PAUSE_SECONDS", 0.001)
    place.engine.reachable = False
    place.put("stray")
    place.sweeper.start()
    await until(lambda: "no sweep now: the engine cannot be reached" in caplog.text)
    place.engine.reachable = True
    await until(lambda: place.left == set())
    await place.sweeper.close()


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)
