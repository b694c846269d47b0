"""The guests' data packages, as the tests have them too: one copy below the environment that the benchmark runs in."""

import sys
from collections.abc import Callable
from pathlib import Path

from codex_server.errors import CodexError
from codex_server.languages import load_languages
from codex_server.packages.installation import install_packages

ROOT = Path(sys.prefix) / "data-packages"


def install_missing(say: Callable[[str], None]) -> None:
    """Install missing packages (minutes at the first time); a failure is reported, and its rows are skipped."""
    missing = {lang.wanted.folder: lang.wanted for lang in load_languages(packages=ROOT) if lang.wanted}
    for wanted in missing.values():
        if not wanted.installed():
            say(f"the packages for {wanted.title}, once")
            try:
                install_packages(wanted, say)
            except CodexError as error:
                say(f"without them: {error}")


def python_environment() -> Path | None:
    """The virtual environment that guests run in, or None when it is not there."""
    packages = load_languages(packages=ROOT).find("python").packages
    return packages.folder if packages else None


def switched() -> dict[str, str]:
    """A server's variables: with these packages where they are there, without any where they are not."""
    return {"CODEX_PACKAGES_DIR": str(ROOT), "CODEX_DATA_PACKAGES": str(python_environment() is not None).lower()}
