"""The environment that Python programs run in: a virtual one, with the data packages or with nothing.

INVARIANT: the interpreter's own packages (pip, and whatever else the host has installed there) are not on its path.
"""

from pathlib import Path, PurePath

CONFIGURATION = "pyvenv.cfg"


def configuration(python: PurePath) -> str:
    """What makes Python take the folder with this file for an environment of ``python``."""
    return f"home = {python.parent}\ninclude-system-site-packages = false\n"


def program_names(python: PurePath) -> list[str]:
    """The names that ``python`` has in an environment's ``bin``."""
    return list(dict.fromkeys(("python3", "python", python.name)))


def make_empty_environment(folder: Path, python: Path) -> None:
    """Make ``folder`` an environment of ``python`` without packages, readable to every account. Raises ``OSError``."""
    programs = folder / "bin"
    for part in (folder, programs):
        part.mkdir()
        part.chmod(0o755)  # whatever the umask says
    file = folder / CONFIGURATION
    file.write_text(configuration(python), encoding="utf-8")
    file.chmod(0o644)
    for name in program_names(python):
        (programs / name).symlink_to(python)
