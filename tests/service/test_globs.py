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


def test_a_pattern_of_many_stars_takes_no_longer_than_others():
    wanted = matcher(["*a" * 100 + "*b", "**/a**/" * 50 + "b"])
    assert not wanted("a" * 250)
    assert not wanted("/".join("a" * 1000))
    assert wanted("a" * 100 + "b")


def test_a_name_may_have_any_character():
    assert list(filter(matcher(["a*b", "?\n"]), ["a\nb", "x\n", "xy\n"])) == ["a\nb", "x\n"]


def test_of_several_patterns_one_is_enough():
    assert matcher(["a/b", "c"])("a/b")
    assert not matcher(["a", "b"])("ab")
    assert list(filter(matcher(["*.py", "csv"]), PATHS)) == [
        "b.py", "src/b.py", "src/x[1].py", "src/deep/d.py", "csv",
    ]  # fmt: skip
