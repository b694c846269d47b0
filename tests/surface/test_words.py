"""The words of the project: terms that were replaced do not come back (the glossary is in ``ARCHITECTURE.md``)."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RETIRED = {
    r"nursery": "task group (in async Python), zygote",
    r"guesthouse": "backend, sandbox",
    r"crowds?": "clients, closed loop",
    r"farewells?": "exit notification, shutdown message",
    r"walls": "isolation, boundary",
    r"intake": "request parsing, admission",
    r"fitting": "truncation (as a module), that fits",
    r"_(?:bury|hunt|knock)\w*": "_reap, _kill_leftovers, _connect",
    r"the hunt": "the search for leftovers",
    r"rehears\w+": "warm up, dry run",
    r"leash\w*": "limit, deadline",
    r"_?census\w*": "stats",
    r"build_door": "build_api",
    r"furnish\w*": "post_install",
    r"far side": "guest side",
    r"processor (?:time|seconds)": "CPU time",
    r"ordinary users?": "unprivileged user",
    r"waiting room": "queue",
    r"floors?(?![_(])": "layer",
    r"the house(?:'s)?": "the project",
    r"back[ -]ends?": "backend",
    r"for eyes": "for people",
    r"_?cures?": "remedy",
}
"""Each retired word as a regular expression, and what to write in its place."""
GENERATED = ("docs/cli.md", "docs/problems.md", "docs/settings.md", "openapi.yaml", "seccomp.json", "requirements.lock")
"""Made from code, where the words are checked."""
FOLDERS = (".ci", ".devcontainer", "benchmarks", "codex_server", "docs", "runners", "tests")
NOT_OURS = frozenset(("__pycache__", "node_modules", "results"))
SELF = "tests/surface/test_words.py"
TEXT_SUFFIXES = frozenset((".cjs", ".js", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", ""))
_PATTERNS = [(re.compile(rf"(?<![A-Za-z]){word}(?![A-Za-z])", re.IGNORECASE), use) for word, use in RETIRED.items()]
_NAME_OF_TEST = re.compile(r"`test_\w+`")
_GENERATED_BLOCK = re.compile(r"<!-- (?:settings|kernel state|table).*?<!-- (?:end of|table: end)", re.DOTALL)


def own_files() -> list[str]:
    """The project's files by relative path, without what installations and tools leave."""
    found = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*")] + list(ROOT.glob("*"))
    names = [file.relative_to(ROOT) for file in found if file.is_file()]
    return sorted(str(name) for name in names if not NOT_OURS.intersection(name.parts))


def is_checked(name: str) -> bool:
    return Path(name).suffix in TEXT_SUFFIXES and name not in (*GENERATED, SELF, "LICENSE")


def own_text(name: str, text: str) -> str:
    """``text`` without generated blocks, names of tests and, in the changelog, released versions."""
    if name == "CHANGELOG.md":
        text = re.split(r"^## \[\d", text, maxsplit=1, flags=re.MULTILINE)[0]
    text = _GENERATED_BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    return _NAME_OF_TEST.sub("", text)


def retired_words(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, use in _PATTERNS:
            if found := pattern.search(line):
                yield f"line {number}: {found[0]!r} was retired; write: {use}"


@pytest.mark.parametrize("name", [name for name in own_files() if is_checked(name)])
def test_no_retired_word_is_in_it(name: str):
    found = [
        f"{name}, {problem}" for problem in retired_words(own_text(name, (ROOT / name).read_text("utf-8", "replace")))
    ]
    assert not found, "\n".join(found)


def test_no_file_or_folder_has_a_retired_name():
    names = {part: name for name in own_files() if is_checked(name) for part in Path(name).with_suffix("").parts}
    assert not [f"{names[part]}: {problem}" for part in names for problem in retired_words(part)]


@pytest.mark.parametrize("word", ["Floors", "the waiting room", "_hunt_them", "class _CensusCollector", "crowd("])
def test_a_retired_word_is_found_and_its_replacement_named(word: str):
    [problem] = retired_words(f"a line\n{word}")
    assert re.fullmatch(r"line 2: '.+' was retired; write: .+", problem)


@pytest.mark.parametrize("text", ["befitting", "wall time", "flooring", "backend", "math.floor_divide", "hunter"])
def test_a_longer_or_other_word_is_not_one(text: str):
    assert not list(retired_words(text))
