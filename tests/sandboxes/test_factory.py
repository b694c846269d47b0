"""Which backend is taken: what each one says of this host is a test's; what is made of it is not."""

import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from codex_server.errors import IsolationTooWeak, StartupError
from codex_server.languages import Languages
from codex_server.sandboxes import factory
from codex_server.sandboxes.base import Backend
from codex_server.sandboxes.testing.fake import FakeBackend
from codex_server.settings import Settings

pytestmark = pytest.mark.anyio

WEAK = IsolationTooWeak(
    "this host does not allow isolation level full (CODEX_MIN_ISOLATION):\n- no cgroups: mount them"
)
ABSENT = StartupError("the docker backend cannot start: the Docker engine at unix:///x cannot be reached: start it")


@dataclass
class Kinds:
    """The two backends; each starts, or refuses with its error."""

    refusals: dict[str, StartupError] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def kind(self, name: str) -> Any:
        kinds = self

        class Kind(FakeBackend):
            async def start(self) -> None:
                kinds.tried.append(name)
                if name in kinds.refusals:
                    raise kinds.refusals[name]
                await super().start()

            async def close(self) -> None:
                kinds.closed.append(name)
                await super().close()

        def made(settings: Settings, languages: Languages) -> Backend:
            backend = Kind()
            backend.name = name
            return backend

        return made


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> Kinds:
    kinds = Kinds()
    made = {name: kinds.kind(name) for name in ("embedded", "docker")}
    monkeypatch.setattr(factory, "_embedded", made["embedded"])
    monkeypatch.setattr(factory, "_docker", made["docker"])
    monkeypatch.setattr(factory, "_KINDS", made)
    return kinds


async def chosen(languages: Languages, backend: str) -> Backend:
    async with factory.open_backend(Settings(backend=backend), languages) as found:
        return found


async def test_auto_takes_embedded_where_it_can_be_had_and_asks_no_engine(kinds, languages):
    backend = await chosen(languages, "auto")
    assert (backend.name, backend.in_place_of) == ("embedded", None)
    assert kinds.tried == ["embedded"]


async def test_auto_takes_docker_where_embedded_cannot_be_had_and_keeps_the_reason(kinds, languages):
    kinds.refusals = {"embedded": WEAK}
    backend = await chosen(languages, "auto")
    assert backend.name == "docker"
    assert backend.in_place_of == WEAK.detail


async def test_where_neither_can_be_had_one_message_names_both_and_is_of_the_firsts_kind(kinds, languages):
    kinds.refusals = {"embedded": WEAK, "docker": ABSENT}
    with pytest.raises(IsolationTooWeak) as caught:
        await chosen(languages, "auto")
    assert caught.value.detail == f"{WEAK.detail}\nNor is there another way: {ABSENT.detail}"


@pytest.mark.parametrize(("requested", "refusal"), [("embedded", WEAK), ("docker", ABSENT)])
async def test_one_that_is_requested_is_taken_or_refused_and_no_other_is_tried(kinds, languages, requested, refusal):
    backend = await chosen(languages, requested)
    assert (backend.name, backend.in_place_of) == (requested, None)
    kinds.refusals = {requested: refusal}
    with pytest.raises(type(refusal)) as caught:
        await chosen(languages, requested)
    assert caught.value is refusal
    assert kinds.tried == [requested, requested]


async def test_a_defect_of_a_back_end_is_not_taken_for_a_host_that_lacks_something(kinds, languages):
    kinds.refusals = {"embedded": ZeroDivisionError("a defect")}  # type: ignore[dict-item]
    with pytest.raises(ZeroDivisionError):
        await chosen(languages, "auto")
    assert kinds.tried == ["embedded"]


async def test_what_was_started_is_closed_whatever_happens_in_between(kinds, languages):
    kinds.refusals = {"embedded": WEAK}
    with contextlib.suppress(RuntimeError):
        async with factory.open_backend(Settings(), languages):
            raise RuntimeError("something else")
    assert kinds.closed == ["docker"]


async def test_docker_that_is_requested_where_no_engine_is_says_so_and_what_to_do(languages, tmp_path):
    settings = Settings(backend="docker", docker_host=f"unix://{tmp_path}/none.sock", state_dir=tmp_path)
    with pytest.raises(
        StartupError, match=r"cannot start: the Docker engine at .*none\.sock cannot be reached: start it"
    ):
        async with factory.open_backend(settings, languages):
            pytest.fail("it started")


async def test_below_the_minimum_nothing_is_taken_and_both_reasons_are_reported(languages, tmp_path, monkeypatch):
    """The real backends, on a host that gives the embedded one less than is requested."""

    async def too_weak(_: object) -> None:
        raise WEAK

    monkeypatch.setattr("codex_server.sandboxes.embedded.backend.EmbeddedBackend.start", too_weak)
    settings = Settings(min_isolation="full", docker_host=f"unix://{tmp_path}/none.sock", state_dir=tmp_path)
    with pytest.raises(IsolationTooWeak) as caught:
        async with factory.open_backend(settings, languages):
            pytest.fail("it started")
    assert "no cgroups: mount them" in caught.value.detail
    assert "Nor is there another way: the docker backend cannot start: the Docker engine" in caught.value.detail
