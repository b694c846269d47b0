"""Paths that operations take, and the entity tags of files."""

import os
import socket

import pytest

from codex_server.sandboxes.files import workspace as module
from codex_server.sandboxes.files.problem import Problem, problem_of
from codex_server.sandboxes.files.workspace import checked, head_of, tag_of_content, version_of


@pytest.mark.parametrize(
    "path", ["", "..", "../a", "a/../b", "/etc/passwd", "a//b", "./a", "a/.", "a/", "a\0b", 7, None]
)
def test_a_path_that_does_not_lead_down_is_refused(path):
    with pytest.raises(Problem) as refused:
        checked(path)
    assert refused.value.code == "invalid"


@pytest.mark.parametrize("name", ["new\nline", "-rf", "ä\u202e", "\udcff", "a:1-2", "...", "a\\b", " "])
def test_an_unusual_name_is_a_name(workspace, folder, name):
    (folder / name).write_bytes(b"there")
    file = workspace.open_file(name)
    assert head_of(file, 10) == b"there"
    os.close(file)


@pytest.mark.parametrize("path", ["n" * 256, "d/" * 3000 + "a"])
def test_a_name_that_is_too_long_is_refused_by_the_system(workspace, path):
    with pytest.raises(OSError) as error:
        workspace.open_file(path)
    assert problem_of(error.value, path).code == "invalid"


@pytest.mark.parametrize("path", ["way/secret.txt", "last.txt", "inner/a.txt", "round/a.txt"])
def test_no_link_is_followed_in_any_part_of_a_path(workspace, folder, path):
    (folder / "way").symlink_to("../outside")
    (folder / "last.txt").symlink_to("../outside/secret.txt")
    (folder / "real").mkdir()
    (folder / "real" / "a.txt").write_text("inside")
    (folder / "inner").symlink_to("real")
    (folder / "round").symlink_to("round")
    for attempt in (workspace.open_file, workspace.open_folder):
        with pytest.raises(OSError) as error:
            attempt(path)
        assert problem_of(error.value, path).code in ("link", "not-folder")


def test_folders_are_not_made_through_a_link(workspace, folder):
    (folder / "way").symlink_to("../outside")
    with pytest.raises(OSError), workspace.at("way/new/a.txt", make=True):
        pass
    assert os.listdir(folder.parent / "outside") == ["secret.txt"]


def test_a_folder_that_is_swapped_for_a_link_while_folders_are_made_leads_nowhere(workspace, folder, monkeypatch):
    mkdir = os.mkdir

    def swap(name, *args, **given):
        mkdir(name, *args, **given)
        if name == "one":
            (folder / "one").rename(folder / "gone")
            (folder / "one").symlink_to("../outside")

    monkeypatch.setattr(os, "mkdir", swap)
    with pytest.raises(OSError), workspace.at("one/two/a.txt", make=True):
        pass
    assert os.listdir(folder.parent / "outside") == ["secret.txt"]


def test_what_is_no_regular_file_is_not_opened(workspace, folder):
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fsencode(os.path.relpath(folder / "socket")))
        for path in ("pipe", "socket"):
            with pytest.raises((OSError, Problem)) as refused:
                workspace.open_file(path)
            error = refused.value
            assert (error if isinstance(error, Problem) else problem_of(error, path)).code == "not-file"
    (folder / "sub").mkdir()
    with pytest.raises(IsADirectoryError):
        workspace.open_file("sub")


def test_a_tag_is_one_of_the_content(workspace, folder):
    for name, content in (("a", b"same"), ("b", b"same"), ("c", b"other")):
        (folder / name).write_bytes(content)
    tags = {}
    for name in ("a", "b", "c"):
        file = workspace.open_file(name)
        tags[name] = version_of(file).tag
        os.close(file)
    assert tags["a"] == tags["b"] == tag_of_content(b"same") != tags["c"]


def test_a_large_file_has_another_tag_once_it_changed(workspace, folder, monkeypatch):
    monkeypatch.setattr(module, "MOST_HASHED", 3)
    (folder / "a").write_bytes(b"large")
    with workspace.at("a") as place:
        before = workspace.tag_at(place)
        os.utime(folder / "a", ns=(1, 1))
        assert workspace.tag_at(place) != before


def test_an_error_of_no_number_is_reported_by_its_text():
    assert problem_of(OSError("Cannot call rmtree on a symbolic link"), "a").detail.endswith("on a symbolic link")
