"""The JavaScript agent against plain ``node``: the same streams and the same end, program by program.

Every Node.js of this machine that the server could use takes part: the pinned one and the system's.
"""

import subprocess
from pathlib import Path

import pytest

from codex_server.interpreters import SYSTEM_PATH, find_interpreter
from codex_server.sandboxes.guest import notices
from tests.runners import beyond_plain_node as beyond
from tests.runners.comparison import Program, Result, lay_out, run_armed_node, run_bare
from tests.runners.javascript_programs import ENDINGS, PROGRAMS, TYPESCRIPT
from tests.tiers import Tier, in_tier, sampled


def find_nodes() -> dict[str, Path]:
    pinned = find_interpreter("node")
    found = {"pinned": pinned.path} if pinned else {}
    for folder in SYSTEM_PATH.split(":"):
        system = (Path(folder) / "node").resolve()
        if system.exists() and system not in found.values():
            found.setdefault("system", system)
    return found


NODES = find_nodes()


@pytest.fixture(params=[in_tier(Tier.QUICK if name == "pinned" else Tier.CHANGE, name) for name in NODES])
def node(request) -> Path:
    return NODES[request.param]


@pytest.fixture
def typescript_node(node) -> Path:
    if ask(node, "process.features.typescript ?? ''") != "strip":
        pytest.skip(f"{node} cannot strip types")
    return node


def ask(node: Path, expression: str) -> str:
    return subprocess.check_output([node, "-p", expression], text=True).strip()


def compare(node: Path, program: Program, workspace: Path, file: str, **armed) -> None:
    bare = run_bare([node, lay_out(program, workspace, file)], program, workspace)
    here = run_armed_node(node, lay_out(program, workspace, file), program, **armed)
    assert here.without_addresses() == bare.without_addresses()


@pytest.mark.parametrize("name", sampled(PROGRAMS))
def test_program_comes_out_as_under_plain_node(name, node, tmp_path):
    compare(node, PROGRAMS[name], tmp_path / "workspace", "main.js")


@pytest.mark.parametrize("name", sampled(ENDINGS))
def test_program_ends_as_under_plain_node(name, node, tmp_path):
    compare(node, ENDINGS[name], tmp_path / "workspace", "main.js")


@pytest.mark.parametrize("name", TYPESCRIPT)
def test_typescript_comes_out_as_under_plain_node(name, typescript_node, tmp_path):
    compare(typescript_node, TYPESCRIPT[name], tmp_path / "workspace", "main.ts")


@pytest.fixture
def hooking_node(node) -> Path:
    if ask(node, "typeof require('module').registerHooks") != "function":
        pytest.skip(f"{node} cannot be told what to do with a file")
    return node


@pytest.mark.parametrize("name", sampled(beyond.TYPESCRIPT))
def test_typescript_that_is_more_than_types_runs(name, typescript_node, tmp_path):
    program, printed = beyond.TYPESCRIPT[name]
    file = lay_out(program, tmp_path / "w", "main.ts")
    assert run_armed_node(typescript_node, file, program) == Result(0, printed, "")


@pytest.mark.parametrize("name", sampled(beyond.MIXED))
def test_program_that_mixes_modules_of_both_kinds_runs(name, hooking_node, tmp_path):
    program, printed = beyond.MIXED[name]
    assert run_armed_node(hooking_node, lay_out(program, tmp_path / "w", "main.js"), program) == Result(0, printed, "")


def test_mixed_program_that_waits_for_nothing_says_so(hooking_node, tmp_path):
    program = Program("const fs = require('fs');\nawait new Promise(() => {});\nconsole.log('never')")
    result = run_armed_node(hooking_node, lay_out(program, tmp_path / "w", "main.js"), program)
    assert (result.code, result.stdout) == (13, "")
    assert "Detected unsettled top-level await at" in result.stderr


@pytest.mark.parametrize("name", sampled(beyond.ENDINGS))
def test_nothing_that_was_written_is_lost(name, node, tmp_path):
    program, code = beyond.ENDINGS[name]
    result = run_armed_node(node, lay_out(program, tmp_path / "w", "main.js"), program)
    assert (result.code, len(result.stdout)) == (code, beyond.MUCH + 1)


def test_decorators_without_the_compiler_say_what_is_missing(typescript_node, tmp_path):
    program, _ = beyond.COMPILED["accessor"]
    result = run_armed_node(typescript_node, lay_out(program, tmp_path / "w", "main.ts"), program)
    assert (result.code, result.stdout) == (1, "")
    assert "the package typescript, which is not installed here" in result.stderr


def test_without_the_compiler_what_only_looks_like_a_decorator_runs(typescript_node, tmp_path):
    program = Program("enum A { X = 'x' }\nconsole.log(A.X, ' @not one', `\n  @nor (this)`.length)")
    file = lay_out(program, tmp_path / "w", "main.ts")
    assert run_armed_node(typescript_node, file, program) == Result(0, "x  @not one 14\n", "")


def test_warmed_up_typescript_says_nothing_of_experiments(typescript_node, tmp_path):
    compare(typescript_node, TYPESCRIPT["types"], tmp_path / "workspace", "main.ts", placeholder="armed.ts")


def test_program_that_nobody_watches_leaves_without_tearing_down(node, tmp_path):
    assert leaves_quickly(node, tmp_path, "console.log(1)")
    assert leaves_quickly(node, tmp_path, "setTimeout(() => console.log(1), 1)")


@pytest.mark.parametrize(
    "code",
    [
        "process.on('exit', () => {})",
        "process.emit = process.emit",
        "require('child_process')",
        "require('inspector')",
        "require('worker_threads')",
        "require.cache['/addon.node'] = module",
        "import 'fs'",
    ],
)
def test_program_whose_end_could_be_seen_is_torn_down(node, tmp_path, code):
    assert not leaves_quickly(node, tmp_path, code)


def leaves_quickly(node: Path, folder: Path, code: str) -> bool:
    """Node's own word on it: this option reports who left the environment before its time."""
    program = Program(code)
    result = run_armed_node(node, lay_out(program, folder / "w", "main.js"), program, flags=["--trace-exit"])
    assert result.code == 0
    return f"Exited the environment with code {notices.MARK}" in result.stderr


def test_node_that_cannot_strip_types_says_what_is_needed(node, tmp_path):
    if ask(node, "process.features.typescript ?? ''"):
        pytest.skip(f"{node} can strip types")
    program = Program("const x: number = 1")
    result = run_armed_node(node, lay_out(program, tmp_path / "w", "main.ts"), program)
    assert result.code == 1
    assert "cannot run TypeScript; the server needs 22.18 or newer" in result.stderr


def test_module_syntax_is_found_by_a_node_that_does_not_look_for_it(node, tmp_path):
    flags = ["--no-experimental-detect-module", "--no-experimental-require-module"]
    program = Program("import fs from 'fs'; console.log(typeof fs.readFileSync, process.argv.length)", args=["a"])
    result = run_armed_node(node, lay_out(program, tmp_path / "w", "main.js"), program, flags=flags)
    assert (result.code, result.stdout) == (0, "function 3\n")


def test_exit_code_and_signal_pass_through_a_newly_started_node(node, tmp_path):
    around = {"env": {"NODE_OPTIONS": "--no-warnings"}}
    program = Program("process.exit(7)", **around)
    assert run_armed_node(node, lay_out(program, tmp_path / "w", "main.js"), program).code == 7
    program = Program("process.kill(process.pid, 'SIGKILL')", **around)
    assert run_armed_node(node, lay_out(program, tmp_path / "w", "main.js"), program).code == -9


def test_armed_node_that_is_not_needed_ends_quietly(node, tmp_path):
    program = Program("")
    result = run_armed_node(node, lay_out(program, tmp_path / "w", "main.js"), program, request=b"")
    assert result == Result(0, "", "")


def test_two_programs_share_no_randomness(node, tmp_path):
    program = Program("console.log(Math.random(), crypto.randomUUID())")
    file = lay_out(program, tmp_path / "w", "main.js")
    first, second = (run_armed_node(node, file, program).stdout.split() for _ in range(2))
    assert not set(first) & set(second)
