"""Files that others change while they are read."""

import os
import tempfile

import pytest

from codex_server.sandboxes.guest.moving import move


def test_a_file_that_is_cut_off_while_it_is_read_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    seek = os.lseek
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as memory:
        file.write(b"x" * 1000)
        file.flush()

        def seek_and_cut_off(descriptor: int, offset: int, how: int) -> int:
            if how == os.SEEK_HOLE:
                os.ftruncate(file.fileno(), 0)
            return seek(descriptor, offset, how)

        monkeypatch.setattr(os, "lseek", seek_and_cut_off)
        with pytest.raises(EOFError, match="shorter"):
            move(file.fileno(), memory.fileno(), 1000, emptying=False)
