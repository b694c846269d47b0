"""One small fault to put into the code, and the tests that must notice it: checked rows of ``mutations.toml``."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_name("mutations.toml")


class ListError(Exception):
    """The list is wrong: the message names the mutation, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """``old``, which stands exactly once in ``file``, becomes ``new``; one of ``tests`` must then fail.

    ``hangs``: with the fault in, they may not end. ``accepted``: why it may go unnoticed.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    hangs: bool = False
    accepted: str | None = None

    def applied(self, text: str) -> str:
        """The text of the file with the fault in it. Raises ``ListError`` where it does not fit the text."""
        if (count := text.count(self.old)) != 1:
            raise ListError(
                f"{self.name}: its text stands {count} times in {self.file}, not once; "
                "the code has changed, so let the mutation follow it"
            )
        return text.replace(self.old, self.new)


def load_mutations(file: Path = LIST) -> list[Mutation]:
    """The list. Raises ``ListError`` for a row of another shape or a name that is there twice."""
    found: dict[str, Mutation] = {}
    for row in tomllib.loads(file.read_text(encoding="utf-8"))["mutation"]:
        mutation = _read(row)
        if mutation.name in found:
            raise ListError(f"{mutation.name}: the name is there twice; choose another")
        found[mutation.name] = mutation
    return list(found.values())


def _read(row: dict[str, Any]) -> Mutation:
    try:
        mutation = Mutation(**row | {"tests": tuple(row["tests"])})
    except (KeyError, TypeError) as error:
        raise ListError(f"{row.get('name', 'a row')}: its keys are not those of a mutation ({error})") from error
    if mutation.old == mutation.new:
        raise ListError(f"{mutation.name}: it changes nothing")
    if not mutation.tests:
        raise ListError(f"{mutation.name}: it names no tests")
    return mutation
