"""Listings, page by page, also while the guest changes what is listed."""

import os

import pytest

from codex_server.sandboxes.files import tree as module
from codex_server.sandboxes.files.problem import Problem
from codex_server.sandboxes.files.tree import tree


def pages(workspace, **given):
    found, after = [], ""
    while True:
        page = tree(workspace, after=after, **given)
        found.append([entry["path"] for entry in page["entries"]])
        if page["next"] is None:
            return found
        after = page["next"]


def fill(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


def test_entries_come_in_the_order_of_their_paths(workspace, folder):
    fill(folder, "b/x", "b/a/y", "a", "b.txt", "ä", "Z")
    (folder / "way").symlink_to("b")
    os.mkfifo(folder / "pipe")
    entries = tree(workspace)["entries"]
    assert [entry["path"] for entry in entries] == ["Z", "a", "b", "b/a", "b/a/y", "b/x", "b.txt", "pipe", "way", "ä"]
    assert [entry["type"] for entry in entries[6:9]] == ["file", "other", "link"]


def test_thousands_of_entries_come_once_each_over_their_pages(workspace, folder):
    names = [f"d{number % 7}/f{number}" for number in range(3000)]
    fill(folder, *names)
    found = pages(workspace, most=173)
    assert {len(page) for page in found[:-1]} == {173}
    flat = [path for page in found for path in page]
    assert len(flat) == len(set(flat)) == 3007
    assert flat == sorted(flat, key=lambda path: path.split("/"))


def test_entries_that_stay_are_listed_though_others_come_and_go(workspace, folder):
    fill(folder, *(f"f{number:03}" for number in range(100)))
    first = tree(workspace, most=50)
    for number in (10, 49, 50, 60):  # 49 is the entry at which the first page ended
        (folder / f"f{number:03}").unlink()
    fill(folder, "f000a", "f099a")
    rest = [entry["path"] for entry in tree(workspace, after=first["next"])["entries"]]
    assert rest == [f"f{number:03}" for number in range(51, 100) if number != 60] + ["f099a"]


def test_names_that_are_no_text_are_listed_once_each(workspace, folder):
    for name in (b"\x80", b"\xff", b"\xff1", b"%ff", b"new\nline", b"zzz\xf0"):
        with open(os.path.join(os.fsencode(folder), name), "w"):
            pass
    assert pages(workspace, most=1) == [["%ff"], ["new\nline"], ["zzz\ufffd"], ["\ufffd"], ["\ufffd"], ["\ufffd1"]]


def test_a_page_ends_before_its_names_are_too_much_for_a_reply(workspace, folder, monkeypatch):
    monkeypatch.setattr(module, "MOST_IN_NAMES", 10)
    fill(folder, "a" * 20, "b" * 6, "c" * 6)
    assert [len(page) for page in pages(workspace)] == [1, 1, 1]


def test_depth_and_pattern_choose(workspace, folder):
    fill(folder, "a/b/c.py", "a/d.py", "e.txt")
    assert pages(workspace, depth=1) == [["a", "e.txt"]]
    assert pages(workspace, depth=2) == [["a", "a/b", "a/d.py", "e.txt"]]
    assert pages(workspace, glob="*.py") == [["a/b/c.py", "a/d.py"]]
    assert pages(workspace, glob="a/*.py") == [["a/d.py"]]
    assert pages(workspace, path="a/b") == [["a/b/c.py"]]


def test_no_link_is_followed(workspace, folder):
    (folder / "way").symlink_to("../outside")
    (folder / "round").symlink_to(".")
    assert pages(workspace) == [["round", "way"]]
    with pytest.raises(OSError):
        tree(workspace, "way")


def test_what_goes_or_is_swapped_for_a_link_while_it_is_listed_is_left_out(workspace, folder, monkeypatch):
    fill(folder, "a/x", "b", "c")
    real = os.stat

    def swapping(name, **given):
        status = real(name, **given)
        if name == "a":
            (folder / "a").rename(folder / "moved")
            (folder / "a").symlink_to("../outside")
            (folder / "b").unlink()
        return status

    monkeypatch.setattr(os, "stat", swapping)
    assert pages(workspace)[0] == ["a", "c"]


def test_a_folder_that_may_not_be_entered_hides_nothing_else(workspace, folder, monkeypatch):
    fill(folder, "a/x", "b")
    real = os.stat

    def denying(name, **given):
        if name == "x":
            raise PermissionError(13, "Permission denied")
        return real(name, **given)

    monkeypatch.setattr(os, "stat", denying)
    assert pages(workspace) == [["a", "b"]]


def test_more_than_can_be_visited_is_an_error_and_no_end(workspace, folder, monkeypatch):
    monkeypatch.setattr(module, "MOST_VISITED", 5)
    fill(folder, *"abcdefg")
    assert len(tree(workspace, most=3)["entries"]) == 3
    with pytest.raises(Problem, match="more than 5"):
        tree(workspace)


def test_a_tree_that_is_deeper_than_anybody_looks_ends(workspace, folder):
    deep = "/".join(["d"] * 100)
    (folder / deep).mkdir(parents=True)
    assert len(pages(workspace, depth=64)[0]) == 64
