"""What to tell a program that asked for a package that is not there: the ones that are, and what to take instead.

Pure but for ``read_stock``, which reads a manifest.
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
"""What an interpreter writes when there is no such package, by the installer of its packages."""
_READ = 20_000
"""Characters of standard error that are looked at, from its end: what ended a program stands there."""


@dataclass(frozen=True, slots=True)
class Stock:
    """The packages that a manifest names, as ``installer`` knows them; what they need beside is left out.

    ``imports`` tells the name by which a program imports one, where that differs; ``instead`` what serves for one that
    is not there.
    """

    installer: str
    names: tuple[str, ...]
    imports: Mapping[str, str]
    instead: Mapping[str, str]

    def missed(self, stderr: str) -> str | None:
        """The package or module whose absence ``stderr`` tells of last; None when it tells of none."""
        matches = list(_MISSING[self.installer].finditer(stderr[-_READ:]))
        return next(filter(None, matches[-1].groups())) if matches else None

    def advise(self, missed: str, *, installed: bool) -> str:
        """What a program can do that has missed ``missed``; ``installed``: whether the packages are there at all."""
        top = self._package_of(missed)
        if not installed:
            return f"Hint: {top!r} is not here; this server runs programs with each language's own library alone."
        by_import = {self.imports.get(name, name): name for name in self.names}
        if top in by_import:
            return f"Hint: {by_import[top]} is installed, but has no {missed!r}; GET /languages tells its version."
        said = [f"Hint: {top!r} is not installed, and programs cannot install packages: they have no network."]
        if instead := self.instead.get(top.lower()):
            said.append(f"Instead: {instead}.")
        elif near := difflib.get_close_matches(top.lower(), {*by_import, *self.names}, n=1, cutoff=0.75):
            said.append(f"Did you mean {near[0]!r}?")
        said.append(f"Installed: {', '.join(map(self._named, self.names))}.")
        said.append(
            "GET /languages (`codex-server languages`) lists them with versions; send your own modules in `files`."
        )
        return " ".join(said)

    def _package_of(self, module: str) -> str:
        """``sklearn`` of ``sklearn.svm``, ``@scope/name`` of ``@scope/name/part``."""
        if self.installer == "pip":
            return module.partition(".")[0]
        return "/".join(module.split("/")[: 2 if module.startswith("@") else 1])

    def _named(self, name: str) -> str:
        imported = self.imports.get(name, name)
        return name if imported == name else f"{name} (import {imported})"


def read_stock(installer: str, manifest: Path, imports: Mapping[str, str], instead: Mapping[str, str]) -> Stock:
    """The stock of a requirements file or a ``package.json``. Raises ``OSError``."""
    text = manifest.read_text(encoding="utf-8")
    names = list(json.loads(text).get("dependencies", {})) if installer == "npm" else _REQUIREMENT.findall(text)
    hidden = {name for name, imported in imports.items() if not imported}
    return Stock(installer, tuple(sorted(set(names) - hidden, key=str.lower)), imports, instead)
