"""Whole or not at all: with an installer that writes a few files, and does what the real ones may do wrong."""

import errno
import os
import threading
from pathlib import Path

import pytest

from codex_server.errors import InstallationFailed
from codex_server.interpreters import Interpreter
from codex_server.packages.installation import install_packages
from codex_server.packages.package_set import InstalledPackages, Package, PackageSet, in_use
from codex_server.packages.process import ProgressCallback

pytestmark = pytest.mark.unprivileged

PYTHON = Interpreter("python", Path("/usr/bin/python3"))
CONTENT = (Package("numpy", "2.4.6"),)


class Recorder:
    """An installer that counts its calls; ``failure`` is raised after half of the work."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.calls = 0
        self.failure = failure

    def __call__(self, folder: Path, wanted: PackageSet, progress: ProgressCallback) -> tuple[Package, ...]:
        self.calls += 1
        progress("half")
        (folder / "module.py").write_text("x = 1\n")
        if self.failure:
            raise self.failure
        return CONTENT


def wanted(root: Path, name: str = "python-3.11-aaa", interpreter: Interpreter = PYTHON) -> PackageSet:
    return PackageSet("Python", "pip", interpreter, root / "requirements.txt", None, (), root / name)


def install(
    package_set: PackageSet, installer: Recorder | None = None, steps: list[str] | None = None
) -> InstalledPackages:
    report = (steps if steps is not None else []).append
    return install_packages(package_set, report, {"pip": installer or Recorder()})


def contents(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {".lock", "install-python.log"}


def test_an_installed_set_is_in_its_place_and_says_what_it_holds(tmp_path: Path) -> None:
    steps: list[str] = []
    package_set = wanted(tmp_path / "new" / "root")
    installed = install(package_set, steps=steps)
    assert installed == package_set.installed()
    assert installed.packages == CONTENT
    assert installed.size > 0
    assert steps == ["half"]
    assert (package_set.folder / "module.py").is_file()


def test_everyone_may_read_it(tmp_path: Path) -> None:
    folder = install(wanted(tmp_path)).folder
    assert folder.stat().st_mode & 0o777 == 0o755


def test_what_is_there_is_not_installed_again(tmp_path: Path) -> None:
    installer = Recorder()
    first, second = (install(wanted(tmp_path), installer) for _ in range(2))
    assert first == second
    assert installer.calls == 1


@pytest.mark.parametrize("failure", [InstallationFailed("no"), KeyboardInterrupt(), RuntimeError("bug")])
def test_a_failure_leaves_nothing(failure: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(failure)):
        install(wanted(tmp_path), Recorder(failure))
    assert contents(tmp_path) == set()
    assert wanted(tmp_path).installed() is None


def test_a_failure_quotes_the_end_of_the_log_which_stays_for_its_owner_alone(tmp_path: Path) -> None:
    with pytest.raises(InstallationFailed) as failure:
        install(wanted(tmp_path), Recorder(InstallationFailed("no room")))
    log = tmp_path / "install-python.log"
    assert failure.value.detail == f"no room.\nThe whole log is {log}; it ends:\n    == half"
    assert log.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_installation_left_is_no_set_and_goes(tmp_path: Path) -> None:
    (tmp_path / ".new-killed").mkdir()
    (tmp_path / ".new-killed" / "module.py").write_text("")
    wanted(tmp_path).folder.mkdir()
    install(wanted(tmp_path))
    assert contents(tmp_path) == {"python-3.11-aaa"}
    assert (wanted(tmp_path).folder / "module.py").is_file()


def test_what_an_older_manifest_asked_for_goes_once_the_new_is_there(tmp_path: Path) -> None:
    install(wanted(tmp_path))
    with pytest.raises(InstallationFailed):
        install(wanted(tmp_path, "python-3.11-bbb"), Recorder(InstallationFailed("no")))
    assert contents(tmp_path) == {"python-3.11-aaa"}
    install(wanted(tmp_path, "python-3.11-bbb"))
    assert contents(tmp_path) == {"python-3.11-bbb"}


def test_what_a_server_uses_stays(tmp_path: Path) -> None:
    with in_use([install(wanted(tmp_path)).folder]):
        install(wanted(tmp_path, "python-3.11-bbb"))
        assert contents(tmp_path) == {"python-3.11-aaa", "python-3.11-bbb"}
    install(wanted(tmp_path, "python-3.11-bbb"))
    assert contents(tmp_path) == {"python-3.11-bbb"}


def test_another_interpreter_s_set_and_what_is_not_ours_stay(tmp_path: Path) -> None:
    install(wanted(tmp_path, "python-3.12-ccc", Interpreter("python", Path("/opt/python3.12"))))
    (tmp_path / "notes").mkdir()
    install(wanted(tmp_path))
    assert contents(tmp_path) == {"python-3.11-aaa", "python-3.12-ccc", "notes"}


def test_two_at_once_install_once(tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    class Slow(Recorder):
        def __call__(self, folder: Path, wanted: PackageSet, progress: ProgressCallback) -> tuple[Package, ...]:
            begun.set()
            assert go.wait(30)
            return super().__call__(folder, wanted, progress)

    class Release(list[str]):
        """What the second says: as soon as it waits, the first may go on."""

        def append(self, line: str) -> None:
            super().append(line)
            go.set()

    slow, second, steps = Slow(), Recorder(), Release()
    thread = threading.Thread(target=install, args=(wanted(tmp_path), slow))
    thread.start()
    assert begun.wait(30)
    install(wanted(tmp_path), second, steps)
    thread.join(30)
    assert (slow.calls, second.calls) == (1, 0)
    assert steps == ["another process installs packages there; waiting for it"]


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "Free some 2 GiB"), (errno.EACCES, "CODEX_PACKAGES_DIR"), (errno.EIO, "EIO")]
)
def test_a_disk_that_refuses_is_named_with_a_remedy(number: int, remedy: str, tmp_path: Path) -> None:
    failure = OSError(number, errno.errorcode[number])
    with pytest.raises(InstallationFailed, match=remedy) as refusal:
        install(wanted(tmp_path), Recorder(failure))
    assert str(tmp_path) in str(refusal.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InstallationFailed, match="cannot be written"):
        install(wanted(tmp_path / "packages"))


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InstallationFailed, match="could not be installed below"):
        install(wanted(tmp_path / "file" / "packages"))
