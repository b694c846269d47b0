"""``files.py``, and every file of the operator that the server reads: what is no regular file is never "absent"."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_server.access.tokens import TokenStore
from codex_server.cli.config import config
from codex_server.configfile import read_config
from codex_server.errors import StartupError
from codex_server.files import open_lock, read_file
from codex_server.languages import load_languages
from codex_server.packages.installation import install_packages
from codex_server.packages.package_set import PackageSet
from codex_server.sandboxes.docker.ownership import Ownership
from codex_server.settings import load_settings

RUNNER = """
name: hello
title: Hello
file: main.hello
program: node
packages: {installer: npm, manifest: package.json, post_install: finish.mjs, parts: [package-lock.json]}
"""


def _socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_PATH)  # the path of a socket has 107 bytes at most
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "folder": (Path.mkdir, "it is a folder, not a file; Docker makes one where the file to mount is missing"),
    "pipe": (os.mkfifo, "it is a named pipe, not a file"),
    "socket": (_socket, "it is a socket, not a file"),
    "device": (lambda path: path.symlink_to("/dev/null"), "it is a device, not a file"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "it is a link to nowhere, where there is nothing"),
    "circle": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
}


def _runners(home: Path) -> Path:
    """A folder with one runner, whose manifest asks for packages."""
    folder = home / "runners" / "hello"
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder / "runner.yaml").write_text(RUNNER)
        for name in ("package.json", "package-lock.json", "finish.mjs"):
            (folder / name).write_text("{}")
    return folder


def _load(home: Path) -> None:
    languages = load_languages(_runners(home).parent, home / "packages")
    assert languages.find("hello").wanted


def _wanted(home: Path) -> PackageSet:
    return next(
        each for each in load_languages(_runners(home).parent, home / "packages") if each.name == "hello"
    ).wanted


def _install(home: Path) -> None:
    install_packages(_wanted(home), print, {"npm": lambda *_: ()})


def _own(home: Path) -> None:
    with Ownership(home / "state"):
        pass


FILES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "settings": (lambda home: home / "codex.toml", lambda home: load_settings()),
    "settings of `config`": (lambda home: home / "codex.toml", lambda home: config()),
    "old tokens": (lambda home: home / "state/tokens.json", lambda home: TokenStore(home / "state").list()),
    "tokens": (lambda home: home / "state/state.sqlite3", lambda home: TokenStore(home / "state").list()),
    "first token": (
        lambda home: home / "state/state.sqlite3",
        lambda home: TokenStore(home / "state").ensure_first_token(),
    ),
    "owner of containers": (lambda home: home / "state/docker-owner", _own),
    "runner": (lambda home: _runners(home) / "runner.yaml", _load),
    "manifest": (lambda home: _runners(home) / "package.json", _load),
    "lock file of packages": (lambda home: _runners(home) / "package-lock.json", _load),
    "script of packages": (lambda home: _runners(home) / "finish.mjs", _load),
    "Dockerfile": (lambda home: _runners(home) / "Dockerfile", _load),
    "list of installed packages": (lambda home: _wanted(home).folder / "installed.json", _load),
    "lock of packages": (lambda home: home / "packages/.lock", _install),
}
"""Where each file is, and what reads it."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", FILES)
def test_what_is_in_the_place_of_a_file_and_is_none_stops_the_start_and_is_named(
    file: str, kind: str, home: Path
) -> None:
    (place, read), (make, told) = FILES[file], KINDS[kind]
    path = place(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises(StartupError) as error:
        read(home)
    assert path.name in error.value.detail
    assert told in error.value.detail
    assert os.path.lexists(path)


def test_a_folder_that_is_a_link_to_nowhere_is_no_absent_one(home: Path) -> None:
    (home / "gone").symlink_to("nowhere")
    for attempt in (
        lambda: TokenStore(home / "gone").list(),
        lambda: load_languages(None, home / "gone"),
        lambda: load_languages(home / "gone"),
    ):
        with pytest.raises(StartupError, match="gone"):
            attempt()
    (_runners(home).parent / "second").symlink_to("nowhere")
    with pytest.raises(StartupError, match="second"):
        load_languages(home / "runners")


def test_a_file_in_the_place_of_the_packages_folder_stops_the_start(home: Path) -> None:
    (home / "packages").write_text("")
    with pytest.raises(StartupError, match=r"Not a directory.*CODEX_PACKAGES_DIR"):
        _load(home)


def test_what_may_not_be_read_is_there_all_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "codex.toml").write_text("port = 1")

    def closed(path: object, *_more: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("codex_server.files.os.open", closed)
    with pytest.raises(StartupError, match=r"codex\.toml cannot be read \(Permission denied\): put a file there"):
        load_settings()


def test_a_link_to_a_file_is_that_file_and_nothing_is_nothing(home: Path) -> None:
    (home / "real.toml").write_bytes(b"\xef\xbb\xbfport = 1")
    (home / "codex.toml").symlink_to("real.toml")
    assert read_config() == {"port": 1}
    assert read_file(home / "none" / "such") is None
    os.close(open_lock(home / "new"))
    assert read_file(home / "new") == b""
