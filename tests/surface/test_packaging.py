import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from codex_server import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        str(ROOT),
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_wheel_holds_every_module_and_every_file_of_the_runners(wheel: zipfile.ZipFile):
    sources = [path for folder in ("codex_server", "runners") for path in (ROOT / folder).rglob("*") if path.is_file()]
    wanted = {str(path.relative_to(ROOT)) for path in sources if "__pycache__" not in path.parts}
    wanted = {
        name.replace("runners/", "codex_server/runners/", 1) if name.startswith("runners/") else name for name in wanted
    }
    assert wanted <= set(wheel.namelist())
    assert "codex_server/runners/python/runner.yaml" in wanted
    assert "codex_server/py.typed" in wanted


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile):
    others = [name for name in wheel.namelist() if not name.startswith(("codex_server/", "codex_server-"))]
    assert others == []
    assert not [name for name in wheel.namelist() if name.endswith((".pyc", ".pyo")) or "__pycache__" in name]
    assert not [name for name in wheel.namelist() if "/tests/" in name]


def test_the_wheel_has_the_command_and_the_version(wheel: zipfile.ZipFile):
    info = f"codex_server-{__version__}.dist-info"
    assert "codex-server = codex_server.cli.main:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert f"\nVersion: {__version__}\n" in wheel.read(f"{info}/METADATA").decode()


def test_the_installed_wheel_finds_its_own_runners(wheel: zipfile.ZipFile, tmp_path: Path):
    wheel.extractall(tmp_path)
    program = "from codex_server.languages import runner_folders; print(*runner_folders(), sep='\\n')"
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    assert {Path(folder).name for folder in shown} == {
        path.parent.name for path in (ROOT / "runners").glob("*/runner.yaml")
    }
    assert all(Path(folder).is_relative_to(tmp_path) for folder in shown)


@pytest.mark.parametrize("line", LOCK)
def test_the_lock_pins_an_exact_version_and_names_no_address(line: str):
    assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)


def test_everything_that_is_asked_for_is_pinned():
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    names = {normal(re.match(r"[A-Za-z0-9._-]+", requirement)[0]) for requirement in asked}  # type: ignore[index]
    assert names <= {normal(line.partition("==")[0]) for line in LOCK}


def test_the_two_commands_of_the_readme_are_targets_that_help_lists():
    listed = subprocess.run(
        ["make", "-C", str(ROOT), "help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    for command in ("serve", "test"):
        assert f"$ make {command}\n" in README
        assert re.search(rf"^  {command} ", listed, re.MULTILINE)


def test_help_lists_every_target_that_a_person_would_call():
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)$", MAKEFILE, re.MULTILINE))
    described = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
    assert phony == described


def test_ci_runs_what_the_readme_tells_as_root_and_as_an_unprivileged_user():
    script = (ROOT / ".ci" / "run").read_text()
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)
    assert "set -euo pipefail" in script
    assert "make check" in script
    assert re.search(r'CODEX_REQUIRE_LEVELS="\$ROOT_LEVELS,\$ENGINE_LEVELS" make test$', script, re.MULTILINE)
    levels = re.findall(r"^ +ROOT_LEVELS=\$PARTS,\S*,(full,\S+)$", script, re.MULTILINE)
    assert levels == ["full,namespaces,confined", "full,namespaces"]
    assert re.findall(r"^ENGINE_LEVELS=(\S+)$", script, re.MULTILINE) == ["docker,container,private-engine"]
    assert re.findall(r"^USER_LEVELS=\$PARTS,(\S+)$", script, re.MULTILINE) == ["namespaces,confined"]
    users = r'as_user CODEX_REQUIRE_LEVELS="\$USER_LEVELS" make -C codex-server test ARGS="-m unprivileged"$'
    assert re.search(users, script, re.MULTILINE)


def test_the_stages_of_ci_that_follow_one_another_have_budgets_that_fit_into_the_whole():
    script = (ROOT / ".ci" / "run").read_text()
    alone = map(int, re.findall(r"^stage (\d+) ", script, re.MULTILINE))
    beside = map(int, re.findall(r"^begin (\d+) ", script, re.MULTILINE))
    (whole,) = re.findall(r"^BUDGET=(\d+)$", script, re.MULTILINE)
    assert sum(alone) + max(beside) <= int(whole) <= 25 * 60


def test_the_engine_for_tests_is_sound_bash_and_asks_no_registry_of_images():
    script = (ROOT / ".ci" / "engine").read_text()
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "engine")], check=True)
    assert "set -euo pipefail" in script
    assert not re.search(r"docker (--host \S+ )?pull", script)
    assert script.count("mmdebstrap --quiet") == 1
