import re

import pytest

from codex_server import errors
from codex_server.errors import CodexError, InvalidRequest, RateLimited, SandboxFault, StartupError, Unavailable


def descend(kind: type[CodexError]) -> list[type[CodexError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in descend(child))]


ALL = [kind for kind in descend(CodexError) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", ALL)
def test_each_error_has_its_own_slug_and_a_title(kind: type[CodexError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", vars(kind)["slug"]), "a slug is not inherited"
    assert vars(kind)["title"]
    assert kind.__doc__


def test_no_two_errors_share_a_slug_or_a_title() -> None:
    assert len({kind.slug for kind in ALL}) == len({kind.title for kind in ALL}) == len(ALL)


def test_the_drawing_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"^    ([| ]*)(?:[|`]- )?(\w+)(?: {2,}|$)", errors.__doc__ or "", re.MULTILINE)
    assert {name for _, name in drawn} == {kind.__name__ for kind in ALL}
    lines = [line for line in (errors.__doc__ or "").splitlines() if re.match(r"    ([|`]|CodexError)|    \|   ", line)]
    path: list[str] = []
    for line in lines:
        depth, name = (re.search(r"\w", line).start() - 4) // (3 if not path else 1), re.findall(r"\w+", line)[0]  # type: ignore[union-attr]
        level = {0: 0, 3: 1, 7: 2}[depth]
        path = [*path[:level], name]
        parent = getattr(errors, name).__bases__[0].__name__
        assert parent == (path[level - 1] if level else "Exception"), line


def test_an_error_tells_what_it_was_told() -> None:
    assert Unavailable("full; try later", retry_after=3).detail == "full; try later"
    assert Unavailable("full", retry_after=3).retry_after == 3
    assert RateLimited("slow down", retry_after=7).retry_after == 7
    assert InvalidRequest("no", pointer="/code").pointer == "/code"


def test_what_never_began_what_was_lost_and_what_stops_the_start_are_apart() -> None:
    assert not issubclass(SandboxFault, Unavailable), "a lost sandbox must not look like one that may be asked again"
    assert not any(issubclass(kind, StartupError) and issubclass(kind, Unavailable) for kind in ALL)
