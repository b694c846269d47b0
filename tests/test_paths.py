"""``codex_server.paths``: where a client's files may go."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.errors import IllegalPath
from codex_server.paths import (
    MAX_ENTRIES,
    MAX_PATH_BYTES,
    WORKSPACE_ALIASES,
    checked_path,
    checked_paths,
    relative_path,
)

HOSTILE_PARTS = st.sampled_from(
    ["", ".", "..", "a", "b c", "\0", "\n", "\x7f", "\ud800", "é" * 130, "x" * 256, "~", "-rf", "...", "mnt", "data"]
)
STARTS = st.sampled_from(["", "", "", "/", "./", "//", "/mnt/data/", "/home/user", "/workspace/", "sandbox:/mnt/data/"])
HOSTILE_PATHS = st.one_of(
    st.text(), st.builds("{}{}".format, STARTS, st.lists(HOSTILE_PARTS, max_size=8).map("/".join))
)


def meant(path):
    """What a program in a workspace at ``/workspace`` would reach by ``path``, told by the standard library."""
    absolute = posixpath.normpath(posixpath.join("/workspace", path.removeprefix("sandbox:")))
    for alias in WORKSPACE_ALIASES:
        if absolute.startswith(f"{alias}/"):
            return absolute.replace(alias, "/workspace", 1)
    return absolute


@given(HOSTILE_PATHS)
def test_a_path_that_passes_is_the_one_that_was_meant_and_stays_inside_the_workspace(path):
    try:
        checked = checked_path(path)
    except IllegalPath:
        return
    assert meant(path) in (f"/workspace/{checked}", f"//workspace/{checked}")
    assert posixpath.normpath(posixpath.join("/workspace", checked)) == f"/workspace/{checked}"
    assert "\0" not in checked
    assert len(checked.encode()) <= MAX_PATH_BYTES
    assert checked_path(checked) == checked


@pytest.mark.parametrize(
    ("path", "checked"),
    [
        ("./a.jpg", "a.jpg"),
        ("data/./x/../y.csv", "data/y.csv"),
        ("a//b", "a/b"),
        ("a/b/../../c", "c"),
        ("././/x", "x"),
        ("/mnt/data/x.csv", "x.csv"),
        ("//mnt/./data//sub/x.csv", "sub/x.csv"),
        ("sandbox:/mnt/data/x.csv", "x.csv"),
        ("/home/user/x.csv", "x.csv"),
        ("/workspace/x.csv", "x.csv"),
        ("./" * 1000 + "x", "x"),
        ("sandbox:x", "sandbox:x"),
        ("mnt/data/x", "mnt/data/x"),
    ],
)
def test_a_path_that_stays_inside_is_normalised(path, checked):
    assert checked_path(path) == checked


@pytest.mark.parametrize(
    ("path", "relative"),
    [
        ("a/b.csv", "a/b.csv"),
        ("./a//b.csv", "a/b.csv"),
        ("/mnt/data/a/b.csv", "a/b.csv"),
        ("/home/user/b.csv", "b.csv"),
        ("sandbox:/workspace/b.csv", "b.csv"),
        ("a/", "a/"),
        ("/workspace/", ""),
        ("/mnt/data", ""),
        ("", ""),
        ("a/../b", "a/../b"),
        ("../b", "../b"),
        ("/mnt/data/../../etc/passwd", "../../etc/passwd"),
        ("/etc/passwd", "/etc/passwd"),
        ("/mnt/database", "/mnt/database"),
    ],
)
def test_other_names_of_the_workspace_are_left_out_and_nothing_is_climbed(path, relative):
    assert relative_path(path) == relative


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
        ("/mnt/database/x", "absolute"),
        ("/mnt/x/../data/y", "absolute"),
        ("sandbox:/etc/passwd", "absolute"),
        ("/mnt/data/../x", "climbs"),
        ("/mnt/data/../data/x", "climbs"),
        ("../workspace/x", "climbs"),
        ("../x", "climbs"),
        ("a/../../x", "climbs"),
        ("a/..", "workspace itself"),
        (".", "workspace itself"),
        ("/mnt/data", "workspace itself"),
        ("a/", "names a folder"),
        ("a/.", "names a folder"),
        ("a/b/..", "names a folder"),
        ("./" * 3000 + "x", "1024 bytes"),
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
        (["a//b", "x", "./a/b"], 2),
        (["./main.py"], 0),
        (["/mnt/data/a", "a"], 1),
    ],
)
def test_paths_that_collide_are_refused_by_the_later_one(paths, index):
    with pytest.raises(IllegalPath) as caught:
        checked_paths(paths, "main.py")
    assert caught.value.pointer == f"/files/{index}/path"


def test_two_ways_to_write_one_file_are_both_named():
    with pytest.raises(IllegalPath) as caught:
        checked_paths(["x", "data//in.csv", "./data/in.csv"], "main.py")
    assert "'./data/in.csv' is where 'data//in.csv' (/files/1) is written" in str(caught.value)


def test_paths_that_only_share_folders_do_not_collide():
    checked_paths(["a/b", "a/c", "ab", "lib/main.py", "main.pyc"], "main.py")


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join), max_size=6))
def test_paths_that_pass_together_can_all_be_written(paths):
    try:
        checked_paths(paths, "p")
    except IllegalPath:
        return
    assert len(set(paths)) == len(paths)
    assert not any(other.startswith(f"{path}/") for path in paths for other in paths)


def test_files_with_more_folders_than_a_workspace_takes_are_refused_where_they_pass_the_bound():
    deep = "/".join("x" * 30)
    paths = [f"{index:03}/{deep}/file" for index in range(1000)]
    with pytest.raises(IllegalPath, match="fewer folders") as caught:
        checked_paths(paths, "main.py")
    each = len(paths[0].split("/"))
    assert caught.value.pointer == f"/files/{MAX_ENTRIES // each}/path"
    checked_paths(paths[: MAX_ENTRIES // each], "main.py")


def test_a_thousand_files_in_one_folder_pass():
    checked_paths([f"{'/'.join('x' * 31)}/{index}" for index in range(1000)], "main.py")
