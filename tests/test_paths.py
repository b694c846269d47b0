"""``codex_server.paths``: where a client's files may go."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.errors import IllegalPath
from codex_server.paths import MAX_ENTRIES, MAX_PATH_BYTES, check_paths_together, checked_path

HOSTILE_PARTS = st.sampled_from(
    ["", ".", "..", "a", "b c", "\0", "\n", "\x7f", "\ud800", "é" * 130, "x" * 256, "~", "-rf", "..."]
)
HOSTILE_PATHS = st.one_of(st.text(), st.lists(HOSTILE_PARTS, max_size=8).map("/".join))


@given(HOSTILE_PATHS)
def test_a_path_that_passes_stays_inside_the_workspace(path):
    try:
        assert checked_path(path) == path
    except IllegalPath:
        return
    joined = posixpath.normpath(posixpath.join("/workspace", path))
    assert joined == f"/workspace/{path}"
    assert "\0" not in path
    assert len(path.encode()) <= MAX_PATH_BYTES


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b",
        "/".join("x" * 32),
        "data/input.csv",
        "ünï/cödé.txt",
        " leading",
        "...",
        "..a",
        "a..",
        "-rf",
        "C:\\x",
        "x" * 255,
    ],
)
def test_ordinary_relative_paths_pass(path):
    assert checked_path(path) == path


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../x", "climbs"),
        ("a/../../x", "climbs"),
        ("a/..", "climbs"),
        ("./a", "'.'"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\x7fb", "control"),
        ("\ud800", "surrogate"),
        ("x" * 256, "255 bytes"),
        ("é" * 128, "255 bytes"),
        ("/".join(["x" * 200] * 6), "1024 bytes"),
        ("/".join("x" * 33), "32 parts"),
    ],
)
def test_a_refused_path_is_told_which_rule_it_breaks(path, word):
    with pytest.raises(IllegalPath, match=word) as caught:
        checked_path(path, "/files/0/path")
    assert caught.value.pointer == "/files/0/path"
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("paths", "index"),
    [
        (["a", "b", "a"], 2),
        (["main.py"], 0),
        (["main.py/x"], 0),
        (["a", "a/b"], 1),
        (["a/b", "a"], 1),
        (["a/b/c", "a/b"], 1),
        (["a/b", "a/b/c/d"], 1),
    ],
)
def test_paths_that_collide_are_refused_by_the_later_one(paths, index):
    with pytest.raises(IllegalPath) as caught:
        check_paths_together(paths, "main.py")
    assert caught.value.pointer == f"/files/{index}/path"


def test_paths_that_only_share_folders_do_not_collide():
    check_paths_together(["a/b", "a/c", "ab", "lib/main.py", "main.pyc"], "main.py")


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join), max_size=6))
def test_paths_that_pass_together_can_all_be_written(paths):
    try:
        check_paths_together(paths, "p")
    except IllegalPath:
        return
    assert len(set(paths)) == len(paths)
    assert not any(other.startswith(f"{path}/") for path in paths for other in paths)


def test_files_with_more_folders_than_a_workspace_takes_are_refused_where_they_pass_the_bound():
    deep = "/".join("x" * 30)
    paths = [f"{index:03}/{deep}/file" for index in range(1000)]
    with pytest.raises(IllegalPath, match="fewer folders") as caught:
        check_paths_together(paths, "main.py")
    each = len(paths[0].split("/"))
    assert caught.value.pointer == f"/files/{MAX_ENTRIES // each}/path"
    check_paths_together(paths[: MAX_ENTRIES // each], "main.py")


def test_a_thousand_files_in_one_folder_pass():
    check_paths_together([f"{'/'.join('x' * 31)}/{index}" for index in range(1000)], "main.py")
