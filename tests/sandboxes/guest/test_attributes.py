"""Modes and times that init sets for a caller: here the caller is the test's own process."""

import ctypes
import errno
import os
import struct

import pytest

from codex_server.sandboxes.guest import kernel
from codex_server.sandboxes.guest.attributes import AttributeService
from codex_server.sandboxes.guest.notices import Notice

pytestmark = pytest.mark.unprivileged

HERE, NO_FOLLOW = -100 & 0xFFFF_FFFF_FFFF_FFFF, 0x100


@pytest.fixture
def folder(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    for file in (inside / "own", outside):
        file.write_text("x")
        file.chmod(0o600)
        os.utime(file, (1, 1))
    (inside / "leaves").symlink_to(outside)
    return inside


@pytest.fixture
def ask(folder):
    """Have a call served; ``is_waiting`` is what the kernel says of the caller."""

    def ask(call, *arguments, is_waiting=True):
        errors, kept = [], [ctypes.create_string_buffer(given) for given in arguments if isinstance(given, bytes)]
        addresses = map(ctypes.addressof, kept)
        registers = [next(addresses) if isinstance(given, bytes) else given for given in arguments]
        service = AttributeService(
            [os.path.realpath(folder)], lambda notice, error: errors.append(error), lambda notice: is_waiting
        )
        service.serve(Notice(1, os.getpid(), kernel.number_of(call), (*registers, *[0] * (6 - len(registers)))))
        return errors

    return ask


def test_a_file_of_the_folder_gets_its_mode_and_its_times(folder, ask):
    own = os.fsencode(folder / "own")
    assert ask("fchmodat", HERE, own, 0o640) == [0]
    assert ask("utimensat", HERE, own, struct.pack("4q", 5, 6, 7, 8), 0) == [0]
    status = (folder / "own").stat()
    assert (status.st_mode & 0o7777, status.st_atime_ns, status.st_mtime_ns) == (0o640, 5_000_000_006, 7_000_000_008)


@pytest.mark.parametrize("name", ["../outside", "leaves", ".."])
def test_what_lies_outside_is_left_as_it_is(name, folder, ask):
    target = os.fsencode(folder / name)
    before = os.stat(target)
    assert (ask("fchmodat", HERE, target, 0o777), ask("utimensat", HERE, target, 0, 0)) == ([errno.EPERM],) * 2
    descriptor = os.open(target, os.O_RDONLY)
    assert (ask("fchmod", descriptor, 0o777), ask("utimensat", descriptor, 0, 0, 0)) == ([errno.EPERM],) * 2
    os.close(descriptor)
    assert os.stat(target) == before


def test_the_link_itself_belongs_to_the_folder(folder, ask):
    assert ask("utimensat", HERE, os.fsencode(folder / "leaves"), struct.pack("4q", 5, 0, 7, 0), NO_FOLLOW) == [0]
    assert (os.lstat(folder / "leaves").st_mtime, os.stat(folder / "leaves").st_mtime) == (7, 1)


def test_nothing_is_done_for_a_caller_that_is_gone(folder, ask):
    own = os.fsencode(folder / "own")
    assert ask("fchmodat", HERE, own, 0o640, is_waiting=False) == [errno.EPERM]
    assert (folder / "own").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((HERE, b"/proc/self/cwd", 0o700), errno.ELOOP),
        ((HERE, b"", 0o700), errno.ENOENT),
        ((HERE, 8, 0o700), errno.EFAULT),
        ((HERE, 1 << 63, 0o700), errno.EFAULT),
        ((99_999, b"own", 0o700), errno.EBADF),
        ((HERE, b"x" * 5000, 0o700), errno.ENAMETOOLONG),
    ],
    ids=["init's own", "empty", "no address", "the kernel's", "no descriptor", "too long"],
)
def test_rubbish_gets_an_errno(arguments, error, ask):
    assert ask("fchmodat", *arguments) == [error]


def test_a_mode_with_special_bits_is_refused(folder, ask):
    assert ask("fchmodat", HERE, os.fsencode(folder / "own"), 0o4700) == [errno.EPERM]
    assert (folder / "own").stat().st_mode & 0o7777 == 0o600
