"""The standard input of a session's cell, as a file or as a named pipe."""

import os
import stat

import pytest

from codex_server.sandboxes.guest.cell_input import file_of, pipe_of
from codex_server.sandboxes.guest.workspace import Part


@pytest.fixture
def payload(tmp_path):
    file = os.open(tmp_path / "payload", os.O_RDWR | os.O_CREAT)
    os.write(file, b"header" + b"one\ntwo\n" + b"files")
    yield file
    os.close(file)


def test_input_that_is_known_is_a_file_that_only_its_owner_may_read(tmp_path, payload):
    found = file_of(str(tmp_path / "7"), Part(payload, 6, 8), os.getuid())
    assert (tmp_path / "7").read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(os.stat(found.path).st_mode) == 0o400
    found.close()
    found.close()
    assert not (tmp_path / "7").exists()


def test_no_input_is_the_null_device_which_stays(tmp_path, payload):
    found = file_of(str(tmp_path / "7"), Part(payload, 6, 0), os.getuid())
    assert (found.path, os.listdir(tmp_path)) == (os.devnull, ["payload"])
    found.close()
    assert os.path.exists(os.devnull)


def test_a_payload_that_ends_within_the_input_is_an_error(tmp_path, payload):
    with pytest.raises(EOFError):
        file_of(str(tmp_path / "7"), Part(payload, 6, 800), os.getuid())


def test_a_pipe_is_opened_once_its_reader_has_opened_it(tmp_path):
    found = pipe_of(str(tmp_path / "7"), os.getuid())
    assert not found.opened()
    reader = os.open(tmp_path / "7", os.O_RDONLY)  # a writer is there, so this does not wait
    assert found.opened()
    os.write(found.writer, b"line\n")
    found.close()
    assert (os.read(reader, 100), os.read(reader, 100)) == (b"line\n", b"")
    os.close(reader)
    assert not (tmp_path / "7").exists()


def test_a_pipe_in_place_of_a_link_is_not_made(tmp_path):
    (tmp_path / "7").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        pipe_of(str(tmp_path / "7"), os.getuid())
