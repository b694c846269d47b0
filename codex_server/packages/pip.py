"""Installs Python packages with pip into a separate virtual environment, from wheels only.

The guests' interpreter makes the environment. The server's own pip installs into it if there is one: to install pip
there and remove it again takes about 4 seconds. Scripts, the packages' own tests (40 percent of the size) and files for
compilers are removed: a guest has neither a network to install from nor a compiler.
"""

import importlib.metadata
import importlib.util
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from codex_server.errors import InstallationFailed
from codex_server.packages.package_set import Package, PackageSet, guest_folder
from codex_server.packages.process import CommandFailed, ProgressCallback, run_command

_TOOLS = ("pip", "setuptools")
_PIP = ("-I", "-m", "pip", "--disable-pip-version-check", "--no-input")
_FIRST_PIP_FOR_OTHERS = (22, 3)
"""The first version of pip that can install for another interpreter (``--python``)."""
_INSTALL = ("install", "--only-binary", ":all:", "--no-compile", "--progress-bar", "off", "--retries", "3")
"""Without retries pip treats an unreachable registry as an empty one and reports the wrong error."""
_FOUND = re.compile(r"(?:Collecting|Obtaining|Processing) (?:\S*/)?([^/\s]+)")
_LOADED = re.compile(r"(?:Downloading|Using cached) (?:\S*/)?([^/\s]+?)-\S*\.(?:whl|tar\.gz) (\(.*\))")
_UNPACKED = re.compile(r"Installing collected packages: (.*)")
_FOR_COMPILERS = frozenset((".a", ".c", ".cc", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyx"))
_UNREACHABLE = re.compile(
    r"NewConnectionError|Failed to establish|ConnectTimeout|Read timed out|name resolution|Connection refused|"
    r"Network is unreachable|ProxyError|SSLError|CERTIFICATE_VERIFY_FAILED|Connection reset|40[13] Client Error|"
    r"HTTP error 5|50\d Server Error"
)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")


def install_with_pip(folder: Path, wanted: PackageSet, progress: ProgressCallback) -> tuple[Package, ...]:
    """Make ``folder`` an environment with the packages of ``wanted.manifest`` (a requirements file); return them.

    ``folder`` may be renamed afterwards. Raises ``InstallationFailed``.
    """
    shared = has_pip_for_others()
    _make_environment(folder, wanted, progress, with_pip=not shared)
    python = folder / "bin" / "python3"
    pip: list[str | Path] = [sys.executable, *_PIP, "--python", python] if shared else [python, *_PIP]
    try:
        run_command([*pip, *_INSTALL, "--requirement", wanted.manifest.resolve()], progress, Steps(), folder=folder)
        if not shared:
            run_command([*pip, "uninstall", "--yes", *_TOOLS], progress, _no_step, folder=folder)
    except CommandFailed as failure:
        raise InstallationFailed(f"pip could not install them: {explain_pip(failure.lines)}") from failure
    library = next((folder / "lib").glob("python3*")) / "site-packages"
    _remove_needless(folder, library)
    if wanted.post_install:
        _post_install(python, wanted.post_install, folder, progress)
    packages = inventory(library)
    progress(f"compiling {len(packages)}")
    _compile(python, folder, guest_folder(wanted.interpreter), progress)
    return packages


def has_pip_for_others() -> bool:
    """Return whether the server's own environment has a pip that can install into another one."""
    if importlib.util.find_spec("pip") is None:
        return False
    version = importlib.metadata.version("pip").split(".")
    return (int(version[0]), int(version[1])) >= _FIRST_PIP_FOR_OTHERS


def inventory(library: Path) -> tuple[Package, ...]:
    """Return what is installed in a ``site-packages`` folder, sorted by name."""
    found = {(dist.metadata["Name"], dist.version) for dist in importlib.metadata.distributions(path=[str(library)])}
    return tuple(Package(*row) for row in sorted(found, key=lambda row: row[0].lower()))


class Steps:
    """Turns pip's output into steps. ``packages`` counts those that it found so far.

    pip knows the total only after it has resolved every package.
    """

    def __init__(self) -> None:
        self.packages = 0

    def __call__(self, line: str) -> str | None:
        """Return the step that a line reports; None for no new step."""
        line = line.strip()
        if found := _FOUND.match(line):
            self.packages += 1
            return f"{self.packages} found, looking at {found[1]}"
        if loaded := _LOADED.match(line):
            return f"{self.packages} found, downloading {loaded[1]} {loaded[2]}"
        if unpacked := _UNPACKED.match(line):
            self.packages = len(unpacked[1].split(", "))
            return f"unpacking {self.packages}"
        return None


def explain_pip(lines: Iterable[str]) -> str:
    """Return cause and remedy from the end of pip's output."""
    output = [line for line in lines if line.strip()]
    text = "\n".join(output)
    if _NO_SPACE.search(text):
        return "the disk is full. Free some 2 GiB, or name a folder on another disk with CODEX_PACKAGES_DIR"
    if is_unreachable(output):
        return (
            "the package registry cannot be reached. Look at the network, and at pip's own settings when you need a "
            f"proxy, a mirror or a certificate (`pip config list`). pip said: {last_error(output)}"
        )
    return f"pip said: {last_error(output)}"


def is_unreachable(lines: Iterable[str]) -> bool:
    """Return whether pip reported that it cannot reach the registry."""
    return _UNREACHABLE.search("\n".join(lines)) is not None


def last_error(output: Sequence[str]) -> str:
    """Return pip's last line that reports an error, else its last line."""
    errors = [line for line in output if line.lower().startswith("error")]
    return (errors or output or ["nothing"])[-1].strip()


def _make_environment(folder: Path, wanted: PackageSet, progress: ProgressCallback, *, with_pip: bool) -> None:
    python = wanted.interpreter.path
    options = ["--symlinks", *([] if with_pip else ["--without-pip"])]
    try:
        run_command([python, "-I", "-m", "venv", *options, folder], progress, _no_step, folder=folder)
    except CommandFailed as failure:
        if re.search(r"ensurepip|No module named (venv|pip)", failure.text):
            raise InstallationFailed(
                f"{python} cannot make virtual environments: its modules venv and ensurepip are not installed. Install "
                "them (Debian, Ubuntu: apt install python3-venv)"
            ) from failure
        if _NO_SPACE.search(failure.text):
            raise InstallationFailed(explain_pip(failure.lines)) from failure
        reason = last_error(list(failure.lines))
        raise InstallationFailed(f"the virtual environment could not be created: {reason}") from failure


def _remove_needless(folder: Path, library: Path) -> None:
    """Remove what no program needs, and what contains the folder's path, which is about to change."""
    for file in (folder / "bin").iterdir():
        if not file.name.startswith("python"):
            file.unlink()
    for tests in [path for path in library.rglob("tests") if path.is_dir()]:
        shutil.rmtree(tests, ignore_errors=True)  # one may be inside another
    for source in [path for path in library.rglob("*") if path.suffix in _FOR_COMPILERS]:
        source.unlink()
    for needless in ("include", "share", "etc"):
        shutil.rmtree(folder / needless, ignore_errors=True)
    config = folder / "pyvenv.cfg"
    lines = config.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(("command", "executable"))]
    config.write_text("\n".join([*kept, ""]), encoding="utf-8")


def _post_install(python: Path, script: Path, folder: Path, progress: ProgressCallback) -> None:
    try:
        run_command([python, "-IB", script.resolve(), folder], progress, str, folder=folder)
    except CommandFailed as failure:
        raise InstallationFailed(
            f"the post-install script {script.name} failed; a package may have changed what it relies on. "
            f"It said: {last_error(list(failure.lines))}"
        ) from failure


def _compile(python: Path, folder: Path, seen_as: str, progress: ProgressCallback) -> None:
    """Compile everything for the path at which a guest sees it, so that no path of the host is in the bytecode."""
    options = ("-qq", "-f", "-j", "0", "-s", str(folder), "-p", seen_as)
    argv = [str(python), "-I", "-m", "compileall", *options, str(folder / "lib")]
    try:
        run_command(argv, progress, _no_step, folder=folder)
    except CommandFailed as failure:
        if _NO_SPACE.search(failure.text) or failure.code != 1:
            raise InstallationFailed(f"the packages could not be compiled: {explain_pip(failure.lines)}") from failure
        # 1: some file is not Python of this version, for example a template; importing it raises SyntaxError.


def _no_step(line: str) -> None:
    """Show no line as a step."""
