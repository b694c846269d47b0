"""The standard input of a session's cell, as a file or as a named pipe."""

import os
import stat

import pytest

from codex_server.sandboxes.guest.cell_input import InputPlace, file_of, pipe_of
from codex_server.sandboxes.guest.workspace import Part


@pytest.fixture
def inputs(tmp_path):
    folder = tmp_path / "inputs"
    folder.mkdir()
    return folder


@pytest.fixture
def place(inputs):
    folder = os.open(inputs, os.O_RDONLY | os.O_DIRECTORY)
    yield InputPlace(str(inputs), folder, "7")
    os.close(folder)


@pytest.fixture
def payload(tmp_path):
    file = os.open(tmp_path / "payload", os.O_RDWR | os.O_CREAT)
    os.write(file, b"header" + b"one\ntwo\n" + b"files")
    yield file
    os.close(file)


def test_input_that_is_known_is_a_file_that_only_its_owner_may_read(inputs, place, payload):
    found = file_of(place, Part(payload, 6, 8), os.getuid())
    assert (inputs / "7").read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(os.stat(found.path).st_mode) == 0o400
    found.close()
    found.close()
    assert not (inputs / "7").exists()


def test_no_input_is_the_null_device_which_stays(inputs, place, payload):
    found = file_of(place, Part(payload, 6, 0), os.getuid())
    assert (found.path, os.listdir(inputs)) == (os.devnull, [])
    found.close()
    assert os.path.exists(os.devnull)


def test_input_that_cannot_be_written_leaves_nothing(inputs, place, payload):
    with pytest.raises(EOFError):
        file_of(place, Part(payload, 6, 800), os.getuid())
    assert os.listdir(inputs) == []


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_a_folder_that_was_replaced_by_a_link_leads_nowhere(tmp_path, inputs, place, payload, kind):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "7").write_bytes(b"not the guest's")
    moved = inputs.rename(tmp_path / "moved")
    inputs.symlink_to(elsewhere)
    found = file_of(place, Part(payload, 6, 8), os.getuid()) if kind == "file" else pipe_of(place, os.getuid())
    assert (moved / "7").exists()
    found.close()
    assert not (moved / "7").exists()
    assert (elsewhere / "7").read_bytes() == b"not the guest's"


def test_what_a_guest_puts_in_its_place_does_no_harm(inputs, place, payload):
    found = file_of(place, Part(payload, 6, 8), os.getuid())
    (inputs / "7").unlink()
    (inputs / "7").mkdir()
    found.close()
    with pytest.raises(FileExistsError):
        file_of(place, Part(payload, 6, 8), os.getuid())


def test_a_pipe_is_opened_once_its_reader_has_opened_it(inputs, place):
    found = pipe_of(place, os.getuid())
    assert not found.opened()
    reader = os.open(inputs / "7", os.O_RDONLY)  # a writer is there, so this does not wait
    assert found.opened()
    os.write(found.writer, b"line\n")
    found.close()
    assert (os.read(reader, 100), os.read(reader, 100)) == (b"line\n", b"")
    os.close(reader)
    assert not (inputs / "7").exists()


def test_a_pipe_in_place_of_a_link_is_not_made(inputs, place):
    (inputs / "7").symlink_to(inputs / "elsewhere")
    with pytest.raises(FileExistsError):
        pipe_of(place, os.getuid())
