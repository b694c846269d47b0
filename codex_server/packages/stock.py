"""Hints for a program that imports a missing package: the installed ones, and an alternative.

Pure functions, except ``read_stock``, which reads a manifest.
"""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", re.MULTILINE)
_MISSING = {
    "pip": re.compile(
        r"^(?:ModuleNotFoundError: No module named '([\w.]+)'|ImportError: Missing optional dependency '([\w.-]+)'|"
        r"\S*python[\d.]*: No module named '?([\w.]+))",
        re.MULTILINE,
    ),
    "npm": re.compile(r"^(?:.*?Error\b[^\n:]*: )?Cannot find (?:module|package) '([^'./][^']*)'", re.MULTILINE),
}
"""An interpreter's error message for a missing package, keyed by the installer of its packages."""
_READ = 20_000
"""The number of last characters of standard error that are searched: the final error is there."""


@dataclass(frozen=True, slots=True)
class Stock:
    """The packages that a manifest names, by their names for ``installer``, without their dependencies.

    ``imports`` maps a package to its import name where that differs; ``instead`` maps a missing package to an
    alternative.
    """

    installer: str
    names: tuple[str, ...]
    imports: Mapping[str, str]
    instead: Mapping[str, str]

    def missed(self, stderr: str) -> str | None:
        """Return the missing package or module that ``stderr`` reports last, or None."""
        matches = list(_MISSING[self.installer].finditer(stderr[-_READ:]))
        return next(filter(None, matches[-1].groups())) if matches else None

    def advise(self, missed: str, *, installed: bool) -> str:
        """Return a hint for a program without ``missed``; ``installed``: whether any packages are installed."""
        top = self._package_of(missed)
        if not installed:
            return f"Hint: {top!r} is not installed; programs here have only their language's standard library."
        by_import = {self.imports.get(name, name): name for name in self.names}
        if top in by_import:
            return f"Hint: {by_import[top]} is installed, but has no {missed!r}; GET /languages shows its version."
        parts = [f"Hint: {top!r} is not installed, and programs cannot install packages: they have no network."]
        if instead := self.instead.get(top.lower()):
            parts.append(f"Instead: {instead}.")
        elif near := difflib.get_close_matches(top.lower(), {*by_import, *self.names}, n=1, cutoff=0.75):
            parts.append(f"Did you mean {near[0]!r}?")
        parts.append(f"Installed: {', '.join(map(self._named, self.names))}.")
        parts.append(
            "GET /languages (`codex-server languages`) lists them with versions; send your own modules in `files`."
        )
        return " ".join(parts)

    def _package_of(self, module: str) -> str:
        """``sklearn`` of ``sklearn.svm``, ``@scope/name`` of ``@scope/name/part``."""
        if self.installer == "pip":
            return module.partition(".")[0]
        return "/".join(module.split("/")[: 2 if module.startswith("@") else 1])

    def _named(self, name: str) -> str:
        imported = self.imports.get(name, name)
        return name if imported == name else f"{name} (import {imported})"


def read_stock(installer: str, manifest: Path, imports: Mapping[str, str], instead: Mapping[str, str]) -> Stock:
    """Read the stock of a requirements file or a ``package.json``. Raises ``OSError``."""
    text = manifest.read_text(encoding="utf-8")
    names = list(json.loads(text).get("dependencies", {})) if installer == "npm" else _REQUIREMENT.findall(text)
    hidden = {name for name, imported in imports.items() if not imported}
    return Stock(installer, tuple(sorted(set(names) - hidden, key=str.lower)), imports, instead)
