"""Which loaded modules came before the zygote was warm, which came with that, and which came later.

INVARIANT: those that came with it, by far the most, are not looked at again. A look counts references, counting writes,
and a page that is written is no longer shared: with the data packages that was 6 MiB and 6 ms for each sandbox.
"""

import itertools
import os
import sys
from collections.abc import Iterable

_before: list[str] = []
_warm: dict[str, None] = {}


def begin() -> None:
    """Warming begins: our callers' modules are loaded already."""
    _before[:] = sys.modules


def end() -> None:
    """Warming is over."""
    _warm.clear()
    _warm.update(dict.fromkeys(sys.modules))


def later() -> list[str]:
    """Names of the modules that came since, the latest first."""
    latest_warm = next(reversed(_warm), "")
    names = itertools.takewhile(lambda name: name != latest_warm, reversed(sys.modules))
    return [name for name in names if name not in _warm]


def within(folders: Iterable[str]) -> list[str]:
    """Names of the modules that were loaded from ``folders``, those that came with warming apart."""
    inside = tuple(folder + os.sep for folder in folders)
    files = [(name, getattr(sys.modules.get(name), "__file__", None)) for name in (*_before, *later())]
    return [name for name, file in files if file and file.startswith(inside)]
