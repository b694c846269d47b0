"""The kernel's own calls: what may be opened beneath a folder, with the call for it and without."""

import errno
import os
import struct
from pathlib import Path

import pytest

from codex_server.sandboxes.guest import kernel

_NO_SUCH_CALL = 9999


@pytest.fixture(params=["openat2", "no openat2"])
def way_to_open(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel that has openat2, and one that has not (an older gVisor)."""
    if request.param != "openat2":
        monkeypatch.setitem(kernel._COMMON_NUMBERS, "openat2", _NO_SUCH_CALL)
    return str(request.param)


def opened(folder: Path, path: bytes, flags: int = os.O_RDONLY) -> str | bytes:
    """What stands in the file ``path`` beneath ``folder``, or the name of the errno."""
    top = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        file = kernel.open_beneath(top, path, flags)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        os.close(top)
    try:
        assert not os.get_inheritable(file)
        return os.read(file, 100)
    finally:
        os.close(file)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a file in a folder, and links of every kind that lead to it or out."""
    (tmp_path / "outside").write_bytes(b"secret")
    top = tmp_path / "top"
    (top / "folder").mkdir(parents=True)
    (top / "folder" / "file").write_bytes(b"content")
    (top / "to-folder").symlink_to("folder")
    (top / "to-file").symlink_to("folder/file")
    (top / "to-outside").symlink_to("../outside")
    (top / "to-root").symlink_to("/")
    return top


def test_a_file_beneath_is_opened(tree, way_to_open):
    assert opened(tree, b"folder/file") == b"content"


@pytest.mark.parametrize("path", [b"to-folder/file", b"to-root/proc/version", b"folder/../to-folder/file"])
def test_no_link_on_the_way_is_followed_even_where_it_stays_beneath(tree, path, way_to_open):
    assert opened(tree, path) in ("ELOOP", "ENOTDIR", "EXDEV")


@pytest.mark.parametrize("path", [b"to-file", b"to-outside", b"to-root"])
def test_no_link_at_the_end_is_followed(tree, path, way_to_open):
    assert opened(tree, path) == "ELOOP"


def test_no_magic_link_is_followed(tree, way_to_open):
    file = os.open(tree / "folder" / "file", os.O_RDONLY)
    try:
        assert opened(Path("/proc/self/fd"), str(file).encode()) == "ELOOP"
    finally:
        os.close(file)


@pytest.mark.parametrize("path", [b"..", b"../outside", b"folder/../../outside"])
def test_nothing_above_is_opened(tree, path, way_to_open):
    assert opened(tree, path) == "EXDEV"


def test_no_other_file_system_is_entered(way_to_open):
    assert opened(Path("/"), b"proc/version") == "EXDEV"
    assert opened(Path("/"), b"proc", os.O_RDONLY | os.O_DIRECTORY) == "EXDEV"


@pytest.mark.parametrize("call", ["renameat2", "no renameat2"])
def test_a_new_name_is_taken_only_where_nothing_is(tree, monkeypatch, call):
    if call != "renameat2":
        monkeypatch.setitem(kernel._NUMBERS[os.uname().machine], "renameat2", _NO_SUCH_CALL)
    top = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in ("one", "two"):
            (tree / name).write_text(name)
        (tree / "sub").mkdir()
        (tree / "way").symlink_to("two")
        for source in (b"one", b"sub", b"way"):
            with pytest.raises((FileExistsError, NotADirectoryError)):
                kernel.rename_new(top, source, top, b"two")
        assert (tree / "two").read_text() == "two"
        for source in (b"one", b"sub", b"way"):
            kernel.rename_new(top, source, top, b"new " + source)
        assert (tree / "new one").read_text() == "one"
        assert (tree / "new way").is_symlink()
        assert not {"one", "sub", "way"} & set(os.listdir(tree))
    finally:
        os.close(top)


def test_the_kernel_is_requested_every_promise_at_once(monkeypatch):
    requested = []
    monkeypatch.setattr(kernel, "syscall", lambda *words: requested.append(words) or 77)
    assert kernel.open_beneath(5, b"a/b", os.O_RDONLY | os.O_NOFOLLOW) == 77
    ((name, folder, path, how, size),) = requested
    assert (name, folder, path, size) == ("openat2", 5, b"a/b", 24)
    no_xdev, no_magiclinks, no_symlinks, beneath = 0x01, 0x02, 0x04, 0x08  # linux/openat2.h
    resolve = no_xdev | no_magiclinks | no_symlinks | beneath
    assert struct.unpack("QQQ", how) == (os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0, resolve)
