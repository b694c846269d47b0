"""The end of Python programs by the agent and under plain ``python3``: exit code, streams and files are the same."""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from codex_server.interpreters import find_interpreter
from tests.runners.comparison import Program, Result, WarmPython, lay_out, run_bare
from tests.runners.python_endings import BETTER_THAN_PLAIN, ENDINGS
from tests.tiers import Tier, in_tier

PYTHON = Path(os.environ.get("CODEX_TEST_PYTHON") or find_interpreter("python").path)
_VERSION = subprocess.check_output([PYTHON, "-c", "import sys; print(*sys.version_info[:2])"], text=True).split()
ODD_SINCE_3_12 = {
    "exit beyond 64 bits",
    "exit far below",
    "exit with an object that cannot be shown",
}
"""There plain Python blames its own failure on whatever is called next."""


def _spread(names: Iterable[str]) -> list[ParameterSet]:
    """One of eight before a commit, one of three for a change, all by night."""
    rows = enumerate(names)
    return [in_tier(Tier.NIGHTLY if at % 3 else Tier.CHANGE if at % 24 else Tier.QUICK, name) for at, name in rows]


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmPython]:
    python = WarmPython(PYTHON)
    yield python
    python.close()


def files_of(workspace: Path) -> dict[str, bytes]:
    found = [path for path in workspace.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(workspace)): path.read_bytes() for path in found}


def comparable(result: Result) -> Result:
    """Without what differs between two runs of plain Python: addresses, process ids, durations, reference counts."""
    pattern = r"pid=\d+|in \d+\.\d+s|refcount : \d+"
    result = result.without_addresses()
    return Result(result.code, re.sub(pattern, "", result.stdout), re.sub(pattern, "", result.stderr))


@pytest.mark.parametrize("name", _spread(ENDINGS))
def test_program_ends_as_under_plain_python(name, warm, tmp_path):
    if name in ODD_SINCE_3_12 and [int(part) for part in _VERSION] >= [3, 12]:
        pytest.skip("plain Python 3.12 and later end this program by chance")
    program, workspace = ENDINGS[name], tmp_path / "workspace"
    bare = run_bare([PYTHON, lay_out(program, workspace, "main.py")], program, workspace)
    left = files_of(workspace)
    here = warm.run(lay_out(program, workspace, "main.py"), program)
    assert comparable(here) == comparable(bare)
    assert files_of(workspace) == left


@pytest.mark.parametrize("name", _spread(BETTER_THAN_PLAIN))
def test_file_that_nobody_closed_is_whole_even_where_plain_python_cuts_it(name, warm, tmp_path):
    program, workspace = Program(BETTER_THAN_PLAIN[name]), tmp_path / "workspace"
    assert warm.run(lay_out(program, workspace, "main.py"), program).code == 0
    (content,) = (content for path, content in files_of(workspace).items() if path != "main.py")
    assert content == b"text" or content.endswith(b"\xc7\xa7\x8b;\x04\x00\x00\x00")


@pytest.mark.parametrize(
    ("left", "code"),
    [("pass", 0), ("import contextvars\ndef g(): yield\nx = g(); next(x)\ncontextvars.ContextVar('v').set(x)", 7)],
)
def test_interpreter_is_taken_apart_only_where_something_is_left(left, code, warm, tmp_path):
    seven = "getattr(library, '__cxa_atexit')(ctypes.cast(library._exit, ctypes.c_void_p), 7, None)\n"
    program = Program(f"import ctypes\nlibrary = ctypes.CDLL(None)\n{seven}{left}")
    assert warm.run(lay_out(program, tmp_path / "workspace", "main.py"), program) == Result(code, "", "")
