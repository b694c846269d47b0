import pytest

from codex_server.service.globs import matcher

PATHS = ["a.csv", "b.py", "data/a.csv", "data/deep/c.csv", "src/b.py", "src/x[1].py", "src/deep/d.py", "csv"]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("**", PATHS),
        ("*", PATHS),
        ("*.csv", ["a.csv", "data/a.csv", "data/deep/c.csv"]),
        ("./*.csv", ["a.csv", "data/a.csv", "data/deep/c.csv"]),
        ("data/*.csv", ["data/a.csv"]),
        ("data/**/*.csv", ["data/a.csv", "data/deep/c.csv"]),
        ("data", ["data/a.csv", "data/deep/c.csv"]),
        ("data/", ["data/a.csv", "data/deep/c.csv"]),
        ("deep", ["data/deep/c.csv", "src/deep/d.py"]),
        ("?.py", ["b.py", "src/b.py", "src/deep/d.py"]),
        ("src/x[1].py", ["src/x[1].py"]),
        ("a.cs", []),
        ("/a.csv", []),
        ("(", []),
    ],
)
def test_a_pattern_means_these_paths(pattern, meant):
    assert list(filter(matcher([pattern]), PATHS)) == meant


def test_of_several_patterns_one_is_enough():
    assert list(filter(matcher(["*.py", "csv"]), PATHS)) == [
        "b.py", "src/b.py", "src/x[1].py", "src/deep/d.py", "csv",
    ]  # fmt: skip
