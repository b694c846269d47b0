"""The environment without packages: a Python that sees its standard library alone."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_server.interpreters import find_interpreter
from codex_server.sandboxes.embedded.environments import make_empty_environment

pytestmark = pytest.mark.unprivileged


@pytest.fixture
def closed_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("closed_umask")
def test_every_account_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    make_empty_environment(tmp_path / "python", Path("/usr/bin/python3.11"))
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "python", *tmp_path.glob("python/[bp]*"))}
    assert modes == {"python": 0o755, "bin": 0o755, "pyvenv.cfg": 0o644}
    links = {path.name: str(path.readlink()) for path in (tmp_path / "python" / "bin").iterdir()}
    assert links == dict.fromkeys(("python3", "python", "python3.11"), "/usr/bin/python3.11")


def test_its_python_finds_the_standard_library_in_the_usual_order_and_no_packages(tmp_path: Path) -> None:
    python = find_interpreter("python")
    assert python
    make_empty_environment(tmp_path / "python", python.path)
    look = "import json, sys; print(json.dumps([sys.prefix, sys.path, callable(exit)]))"
    prefix, path, has_builtins = json.loads(_ask(tmp_path / "python" / "bin" / "python3", "-c", look))
    assert (prefix, has_builtins) == (str(tmp_path / "python"), True)
    assert path == json.loads(_ask(python.path, "-S", "-c", "import json, sys; print(json.dumps(sys.path))"))


def _ask(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, env={}).stdout
