"""Files written into the workspace of a session, and what tells that one has changed."""

import os
import time

import pytest

from codex_server.sandboxes.guest.session_workspace import FilesRefused, add_files, snapshot


@pytest.fixture
def top(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield folder
    os.close(folder)


def add(top, tmp_path, **files):
    content = b"".join(files.values())
    payload = os.memfd_create("payload")
    os.write(payload, b"head" + content)
    try:
        add_files(top, payload, 4, [(path.replace("__", "/"), len(data)) for path, data in files.items()], os.getuid())
    finally:
        os.close(payload)


def test_files_are_written_with_their_folders_one_after_the_other(top, tmp_path):
    add(top, tmp_path, a=b"one", deep__er__b=b"", c=b"three")
    assert [(tmp_path / name).read_bytes() for name in ("a", "deep/er/b", "c")] == [b"one", b"", b"three"]
    assert sorted(os.listdir(tmp_path)) == ["a", "c", "deep"]


def test_a_file_is_replaced_and_not_written_into(top, tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    os.link(tmp_path / "a", tmp_path / "second")
    add(top, tmp_path, a=b"new")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "second").read_bytes()) == (b"new", b"old")


def test_a_link_is_replaced_and_not_followed(top, tmp_path):
    outside = tmp_path.parent / "outside"
    outside.write_bytes(b"untouched")
    (tmp_path / "a").symlink_to(outside)
    add(top, tmp_path, a=b"new")
    assert (outside.read_bytes(), (tmp_path / "a").read_bytes()) == (b"untouched", b"new")


@pytest.mark.parametrize("kind", ["link", "file", "folder"])
def test_what_stands_in_the_way_is_named_and_nothing_is_left(top, tmp_path, kind):
    path = "way__a"
    if kind == "link":
        (tmp_path.parent / "elsewhere").mkdir()
        (tmp_path / "way").symlink_to(tmp_path.parent / "elsewhere")
    elif kind == "file":
        (tmp_path / "way").write_bytes(b"")
    else:
        path = "way"
        (tmp_path / "way").mkdir()
    with pytest.raises(FilesRefused, match=r"'way.*cannot be written"):
        add(top, tmp_path, **{path: b"new"})
    assert os.listdir(tmp_path) == ["way"]
    assert not (tmp_path.parent / "elsewhere" / "a").exists()


def test_a_file_that_is_written_differs_from_its_snapshot_however_soon(top, tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    before = snapshot(top)
    (tmp_path / "a").write_bytes(b"ONE")
    after = snapshot(top)
    assert (before["a"] != after["a"], before["b"] == after["b"]) == (True, True)


@pytest.mark.parametrize(("later", "waits"), [(0, 1), (2 * 10**9, 0)])
def test_a_snapshot_waits_only_for_what_was_written_just_now(top, tmp_path, monkeypatch, later, waits):
    (tmp_path / "a").write_bytes(b"one")
    written, slept = (tmp_path / "a").stat().st_ctime_ns, []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "time_ns", lambda: written + later)
    snapshot(top)
    assert len(slept) == waits
