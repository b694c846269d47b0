"""The Python agent against plain ``python3``: the same streams and the same end, program by program."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_server.interpreters import find_interpreter
from tests.runners.comparison import Program, Result, WarmPython, lay_out, run_bare
from tests.runners.python_programs import PROGRAMS
from tests.tiers import sampled

PYTHON = Path(os.environ.get("CODEX_TEST_PYTHON") or find_interpreter("python").path)
"""The interpreter under test; the variable compares another version of Python than the suite's own."""


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmPython]:
    python = WarmPython(PYTHON)
    yield python
    python.close()


def run_warm(warm: WarmPython, code: str, workspace: Path, **around) -> Result:
    program = Program(code, **around)
    return warm.run(lay_out(program, workspace, "main.py"), program)


@pytest.mark.parametrize("name", sampled(PROGRAMS))
def test_program_comes_out_as_under_plain_python(name, warm, tmp_path):
    program = PROGRAMS[name]
    workspace = tmp_path / "workspace"
    bare = run_bare([PYTHON, lay_out(program, workspace, "main.py")], program, workspace)
    here = warm.run(lay_out(program, workspace, "main.py"), program)
    assert here.without_addresses() == bare.without_addresses()


def test_open_file_is_written_when_the_program_ends(warm, tmp_path):
    run_warm(warm, "f = open('out.txt', 'w'); f.write('text')\ndef keeps_a_cycle(): return f\n", tmp_path / "w")
    assert (tmp_path / "w" / "out.txt").read_text() == "text"


def test_line_that_was_printed_is_not_lost_when_the_program_is_killed(warm, tmp_path):
    result = run_warm(warm, "import os; print('kept'); os.kill(os.getpid(), 9)", tmp_path / "w")
    assert result == Result(-9, "kept\n", "")


def test_unbuffered_output_can_be_asked_for(warm, tmp_path):
    code = "import os; print('kept', end=''); os.kill(os.getpid(), 9)"
    result = run_warm(warm, code, tmp_path / "w", env={"PYTHONUNBUFFERED": "1"})
    assert result.stdout == "kept"


def test_bytecode_is_not_written_when_the_environment_says_so(warm, tmp_path):
    files = {"helper.py": ""}
    run_warm(warm, "import helper", tmp_path / "w", files=files, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert not (tmp_path / "w" / "__pycache__").exists()
    run_warm(warm, "import helper", tmp_path / "w", files=files)
    assert (tmp_path / "w" / "__pycache__").exists()


def test_exit_code_beyond_the_machine_s_integers_is_255(warm, tmp_path):
    assert run_warm(warm, "import sys; sys.exit(2 ** 200)", tmp_path / "w").code == 255


@pytest.mark.parametrize(
    "code",
    [
        "import random; print(random.random())",
        "import uuid; print(uuid.uuid4(), uuid.uuid1())",
        "import secrets; print(secrets.token_hex())",
        "import ssl; print(ssl.RAND_bytes(16))",
        "import tempfile; print(tempfile.mktemp())",
    ],
)
def test_two_workers_share_no_randomness(code, warm, tmp_path):
    first, second = (run_warm(warm, code, tmp_path / "w").stdout for _ in range(2))
    assert first
    assert first != second


def test_what_one_program_changes_is_not_seen_by_the_next(warm, tmp_path):
    run_warm(warm, "import json, builtins; json.dumps = None; builtins.leak = 1", tmp_path / "w")
    result = run_warm(warm, "import json, builtins; print(json.dumps(1), hasattr(builtins, 'leak'))", tmp_path / "w")
    assert result == Result(0, "1 False\n", "")


def test_no_name_of_the_agent_or_its_caller_is_importable_from_the_path(warm, tmp_path):
    code = "for name in ('agent', 'warm_python'):\n    try: __import__(name)\n    except ImportError: print('no')"
    assert run_warm(warm, code, tmp_path / "w").stdout == "no\nno\n"


def test_deep_recursion_reaches_nearly_as_far_as_under_plain_python(warm, tmp_path):
    code = "def f(n):\n    global depth\n    depth = n\n    f(n + 1)\ntry: f(1)\nexcept RecursionError: print(depth)"
    program = Program(code)
    bare = run_bare([PYTHON, lay_out(program, tmp_path / "w", "main.py")], program, tmp_path / "w")
    here = run_warm(warm, code, tmp_path / "w")
    assert int(bare.stdout) - 10 <= int(here.stdout) <= int(bare.stdout)
