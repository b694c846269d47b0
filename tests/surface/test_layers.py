import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "codex_server").rglob("*.py"))
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}


def test_every_module_imports_only_from_layers_below_its_own():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_server_loads_no_program_of_the_guest_side() -> None:
    program = "import sys, codex_server.sandboxes.embedded.backend; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    programs = {
        f"codex_server.sandboxes.guest.{name}"
        for name in ("launcher", "mount_setup", "zygote", "init", "session_init", "worker")
    }
    assert not programs & set(done.stdout.split())


def test_the_layers_of_the_architecture_are_those_that_are_checked():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    checked = [set(layer.split(" | ")) for layer in contracts[0]["layers"]]
    drawn = re.findall(r"^ ?\d+  (\S+(?:  \S+)*)", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert [{re.sub(r"(/|\.py)$", "", name) for name in layer.split()} for layer in drawn] == checked


def test_a_module_is_named_after_its_one_noun():
    assert not [path for path in MODULES if path.stem in FORBIDDEN]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_and_no_function_is_long(path: Path):
    text = path.read_text()
    assert text.count("\n") < 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


@pytest.mark.parametrize("path", [path for path in MODULES if path.read_text().strip()], ids=lambda p: p.stem)
def test_every_module_says_its_one_job(path: Path):
    assert ast.get_docstring(ast.parse(path.read_text())), path
