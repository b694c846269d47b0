import fcntl
import json
import os
from pathlib import Path

import pytest

from codex_server.interpreters import Interpreter
from codex_server.packages.package_set import (
    STAMP,
    InstalledPackages,
    Package,
    guest_folder,
    in_use,
    locate,
    read_stamp,
    write_stamp,
)

PYTHON = Interpreter("python", Path("/usr/bin/python3.11"))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text("numpy\n")
    return file


def place(*files: Path, root: str = "/root-of-all", interpreter: Interpreter = PYTHON, version: str = "3.11.7") -> Path:
    return locate(Path(root), installer="pip", interpreter=interpreter, version=version, files=files)


def test_a_folder_is_named_after_interpreter_release_and_content(manifest: Path) -> None:
    folder = place(manifest)
    assert folder.parent == Path("/root-of-all")
    assert folder.name.startswith("python-3.11-")
    assert folder == place(manifest, version="3.11.9")


def test_whatever_decides_what_is_installed_changes_the_folder(manifest: Path, tmp_path: Path) -> None:
    post_install = tmp_path / "post_install.py"
    post_install.write_text("1")
    found = {place(manifest), place(manifest, post_install), place(manifest, version="3.12.0")}
    found.add(place(manifest, interpreter=Interpreter("python", Path("/opt/python3"))))
    manifest.write_text("numpy<3\n")
    found.add(place(manifest))
    post_install.write_text("2")
    found.add(place(manifest, post_install))
    assert len(found) == 6


def test_what_a_stamp_says_is_read_back(tmp_path: Path) -> None:
    installed = InstalledPackages(tmp_path, "pip", "/usr/bin/python3", (Package("numpy", "2.4.6"),), 4096)
    write_stamp(installed)
    assert read_stamp(tmp_path) == installed


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"packages": [1]}', '{"installer": "pip", "packages": [], "size": "x"}', "\udcff"]
)
def test_a_folder_with_a_damaged_stamp_holds_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / STAMP).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert read_stamp(tmp_path) is None


def test_a_folder_without_a_stamp_holds_nothing(tmp_path: Path) -> None:
    assert read_stamp(tmp_path) is None
    assert read_stamp(tmp_path / "nowhere") is None


def test_a_stamp_is_text_that_a_person_can_read(tmp_path: Path) -> None:
    write_stamp(InstalledPackages(tmp_path, "pip", "/usr/bin/python3", (Package("numpy", "2.4.6"),), 4096))
    assert json.loads((tmp_path / STAMP).read_text())["packages"] == [{"name": "numpy", "version": "2.4.6"}]


def test_a_folder_in_use_is_locked_until_it_is_not(tmp_path: Path) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    with in_use([tmp_path]), pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_guests_see_the_packages_below_opt() -> None:
    assert guest_folder(PYTHON) == "/opt/python-packages"
