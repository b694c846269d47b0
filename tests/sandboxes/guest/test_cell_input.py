"""The standard input of a session's cell, as a file or as a named pipe."""

import os
import stat

import pytest

from codex_server.sandboxes.guest.cell_input import InputPlace, file_of, pipe_of
from codex_server.sandboxes.guest.workspace import Part


@pytest.fixture
def place(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield InputPlace(str(tmp_path), folder, "7")
    os.close(folder)


@pytest.fixture
def payload(tmp_path):
    file = os.open(tmp_path / "payload", os.O_RDWR | os.O_CREAT)
    os.write(file, b"header" + b"one\ntwo\n" + b"files")
    yield file
    os.close(file)


def test_input_that_is_known_is_a_file_that_only_its_owner_may_read(tmp_path, place, payload):
    found = file_of(place, Part(payload, 6, 8), os.getuid())
    assert (tmp_path / "7").read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(os.stat(found.path).st_mode) == 0o400
    found.close()
    found.close()
    assert not (tmp_path / "7").exists()


def test_no_input_is_the_null_device_which_stays(tmp_path, place, payload):
    found = file_of(place, Part(payload, 6, 0), os.getuid())
    assert (found.path, os.listdir(tmp_path)) == (os.devnull, ["payload"])
    found.close()
    assert os.path.exists(os.devnull)


def test_input_that_cannot_be_written_leaves_nothing(tmp_path, place, payload):
    with pytest.raises(EOFError):
        file_of(place, Part(payload, 6, 800), os.getuid())
    assert os.listdir(tmp_path) == ["payload"]


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_a_folder_that_was_replaced_by_a_link_leads_nowhere(tmp_path, place, payload, kind):
    (tmp_path.parent / "elsewhere").mkdir()
    bait = tmp_path.parent / "elsewhere" / "7"
    bait.write_bytes(b"not the guest's")
    moved = tmp_path.rename(tmp_path.parent / "moved")
    tmp_path.symlink_to(tmp_path.parent / "elsewhere")
    found = file_of(place, Part(payload, 6, 8), os.getuid()) if kind == "file" else pipe_of(place, os.getuid())
    assert (moved / "7").exists()
    found.close()
    assert not (moved / "7").exists()
    assert bait.read_bytes() == b"not the guest's"


def test_what_a_guest_puts_in_its_place_does_no_harm(tmp_path, place, payload):
    found = file_of(place, Part(payload, 6, 8), os.getuid())
    (tmp_path / "7").unlink()
    (tmp_path / "7").mkdir()
    found.close()
    with pytest.raises(FileExistsError):
        file_of(place, Part(payload, 6, 8), os.getuid())


def test_a_pipe_is_opened_once_its_reader_has_opened_it(tmp_path, place):
    found = pipe_of(place, os.getuid())
    assert not found.opened()
    reader = os.open(tmp_path / "7", os.O_RDONLY)  # a writer is there, so this does not wait
    assert found.opened()
    os.write(found.writer, b"line\n")
    found.close()
    assert (os.read(reader, 100), os.read(reader, 100)) == (b"line\n", b"")
    os.close(reader)
    assert not (tmp_path / "7").exists()


def test_a_pipe_in_place_of_a_link_is_not_made(tmp_path, place):
    (tmp_path / "7").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        pipe_of(place, os.getuid())
