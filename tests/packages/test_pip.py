"""The installation with pip, from a folder of wheels that the test makes: no registry is contacted."""

import base64
import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from codex_server.errors import InstallationFailed
from codex_server.interpreters import Interpreter, find_interpreter
from codex_server.packages import pip
from codex_server.packages.installation import install_packages
from codex_server.packages.package_set import Package, PackageSet
from codex_server.packages.pip import Steps, explain_pip, has_pip_for_others, inventory

PYTHON = find_interpreter("python")
FINISH = """
import pathlib, sys
sys.stdout.write("finishing\\n")
(pathlib.Path(sys.argv[1]) / "lib" / "extra").write_text(sys.version)
"""


def make_wheel(folder: Path, name: str, version: str) -> None:
    """A package of one module, which a test folder and a broken template lie beside."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": "def where():\n    return where.__code__.co_filename\n",
        f"{name}/tests/__init__.py": "",
        f"{name}/fast.pyx": "",
        f"{name}/template.py": "this is {{ no }} python\n",
        f"{name}-{version}.data/scripts/{name}-command": "#!python\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in files.items()]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip looks here and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "apple", "1.2")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return folder


def wanted(
    folder: Path, requirements: str, post_install: str | None = None, python: Interpreter | None = PYTHON
) -> PackageSet:
    manifest = folder / "requirements.txt"
    manifest.write_text(requirements)
    script = folder / "post_install.py"
    script.write_text(post_install or "")
    assert python
    return PackageSet(
        "Python", "pip", python, manifest, script if post_install else None, (), folder / "root" / "python-x"
    )


@pytest.mark.tier("change")
@pytest.mark.parametrize("own_pip", [True, False])
def test_what_is_asked_for_is_installed_finished_and_told(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_pip: bool
) -> None:
    """With the server's pip, and with one that comes into the environment and leaves it again."""
    monkeypatch.setattr(pip, "has_pip_for_others", lambda: own_pip)
    steps: list[str] = []
    installed = install_packages(wanted(tmp_path, "apple==1.2\n", FINISH), steps.append)
    assert installed.packages == (Package("apple", "1.2"),)
    assert steps[-2:] == ["finishing", "compiling 1"]
    assert any("apple" in line for line in steps)
    assert (installed.folder / "lib" / "extra").is_file()
    library = next((installed.folder / "lib").glob("python3*")) / "site-packages"
    assert inventory(library) == installed.packages
    assert {path.name for path in library.iterdir()} == {"apple", "apple-1.2.dist-info"}
    assert not (library / "apple" / "tests").exists()
    assert not (library / "apple" / "fast.pyx").exists()
    assert all(path.name.startswith("python") for path in (installed.folder / "bin").iterdir())


@pytest.mark.tier("change")
def test_the_environment_works_where_it_is_and_its_bytecode_bears_the_guests_path(wheels: Path, tmp_path: Path) -> None:
    folder = install_packages(wanted(tmp_path, "apple\n"), lambda line: None).folder
    program = "import apple, sys; print(sys.prefix, apple.where(), sep='\\n')"
    ran = subprocess.run([folder / "bin" / "python3", "-I", "-c", program], capture_output=True, text=True, check=True)
    prefix, where = ran.stdout.split()
    assert (prefix, ran.stderr) == (str(folder), "")
    assert where.startswith(str(folder))
    library = next((folder / "lib").glob("python3*")) / "site-packages"
    (compiled,) = (library / "apple" / "__pycache__").glob("__init__*.pyc")
    assert b"/opt/python-packages/lib/" in compiled.read_bytes()
    named = [path for path in folder.rglob("*") if path.is_file() and str(tmp_path).encode() in path.read_bytes()]
    assert named == []


@pytest.mark.tier("change")
def test_a_package_that_is_nowhere_is_named_and_nothing_stays(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(InstallationFailed, match=r"No matching distribution found for pear"):
        install_packages(wanted(tmp_path, "apple\npear\n"), lambda line: None)
    assert {path.name for path in (tmp_path / "root").iterdir()} == {".lock", "install-python.log"}


@pytest.mark.tier("change")
def test_a_registry_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the port of the discard service
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InstallationFailed, match="registry cannot be reached"):
        install_packages(wanted(tmp_path, "apple\n"), lambda line: None)


@pytest.mark.tier("change")
def test_a_finish_that_fails_takes_everything_back(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(InstallationFailed, match=r"post_install.py.*no fonts"):
        install_packages(wanted(tmp_path, "apple\n", "import sys; sys.exit('no fonts')"), lambda line: None)
    assert {path.name for path in (tmp_path / "root").iterdir()} == {".lock", "install-python.log"}


def test_a_python_without_its_venv_module_is_named_with_the_package_to_install(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho 'No module named venv' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(InstallationFailed, match=r"apt install python3-venv"):
        install_packages(wanted(tmp_path, "apple\n", python=Interpreter("python", python)), lambda line: None)


def test_an_interpreter_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(InstallationFailed, match="python-that-is-gone"):
        gone = Interpreter("python", tmp_path / "python-that-is-gone")
        install_packages(wanted(tmp_path, "apple\n", python=gone), lambda line: None)


@pytest.mark.parametrize(("version", "enough"), [("22.2.2", False), ("22.3", True), ("23.0.1", True), ("100.0", True)])
def test_only_a_pip_that_knows_other_interpreters_serves_them(
    monkeypatch: pytest.MonkeyPatch, version: str, enough: bool
) -> None:
    monkeypatch.setattr(pip.importlib.metadata, "version", {"pip": version}.__getitem__)
    assert has_pip_for_others() is enough


def test_without_a_pip_of_ones_own_there_is_none_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip.importlib.util, "find_spec", lambda name: None)
    assert not has_pip_for_others()


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        (
            ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"],
            "the disk is full",
        ),
        (
            [
                "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /numpy/",
                "ERROR: No matching distribution found for numpy",
            ],
            "cannot be reached",
        ),
        (["ERROR: HTTP error 503 while getting x"], "cannot be reached"),
        (
            ["ERROR: No matching distribution found for numpy<3,>=2.1"],
            "pip said: ERROR: No matching distribution",
        ),
        (["ERROR: odd", "", "  "], "pip said: ERROR: odd"),
        ([], "pip said: nothing"),
    ],
)
def test_what_pip_says_becomes_cause_and_remedy(output: list[str], cause: str) -> None:
    assert cause in explain_pip(output)


def test_of_pip_s_talk_a_person_sees_how_far_it_is() -> None:
    steps = Steps()
    talk = {
        "Looking in indexes: https://user:****@registry.example": None,
        "Collecting numpy<3,>=2.1 (from -r x (line 1))": "1 found, looking at numpy<3,>=2.1",
        "  Downloading numpy-2.4.6.whl.metadata (66 kB)": None,
        "  Downloading numpy-2.4.6-cp311.whl (16.6 MB)": "1 found, downloading numpy (16.6 MB)",
        "Requirement already satisfied: x": None,
        "Processing /mirror/pear-2.4.6-cp311.whl (from y)": "2 found, looking at pear-2.4.6-cp311.whl",
        "  Using cached six-1.17.0-py2.py3-none-any.whl (11 kB)": "2 found, downloading six (11 kB)",
        "Installing collected packages: a, b, c": "unpacking 3",
        "Successfully installed a-1 b-2 c-3": None,
    }
    assert [steps(line) for line in talk] == list(talk.values())
    assert steps.packages == 3
