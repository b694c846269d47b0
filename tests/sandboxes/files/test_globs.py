"""Which paths a pattern means."""

import pytest

from codex_server.sandboxes.files.globs import matcher


@pytest.mark.parametrize(
    ("pattern", "meant", "others"),
    [
        ("*.py", ["a.py", "src/deep/b.py"], ["a.pyc", "py"]),
        ("src/*.py", ["src/a.py"], ["src/deep/b.py", "a.py", "x/src/a.py"]),
        ("src/**/*.py", ["src/a.py", "src/deep/er/b.py"], ["a.py"]),
        ("src/**", ["src/a", "src/b/c"], ["src"]),
        ("?.txt", ["a.txt", "ä.txt"], ["ab.txt"]),
        ("[a-c]*", ["apple", "d/boat"], ["dog"]),
        ("[!a-c]*", ["dog"], ["apple"]),
        ("a+(b).txt", ["a+(b).txt"], ["aab.txt"]),
        ("[z-a]", ["[z-a]"], ["z"]),
        ("[", ["["], ["a"]),
        ("new\nline*", ["new\nline.txt"], ["new"]),
        (None, ["anything"], []),
    ],
)
def test_a_pattern_means_names_and_with_a_slash_paths(pattern, meant, others):
    matches = matcher(pattern)
    assert [path for path in meant + others if matches(path)] == meant
