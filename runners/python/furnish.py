"""Completes a new environment of data packages: run by its interpreter, with the environment's folder as argument.

Puts ``figures.py`` among the packages, makes it matplotlib's default backend, and makes the list of fonts that
matplotlib would otherwise make in each sandbox anew (1 s with a full set of fonts).
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

FONTS = "matplotlib-cache"
"""Folder below ``lib`` with the list of fonts; ``agent.py`` looks for it there."""
BACKEND = "codex_figures"
_SEEN_BY_GUESTS = "/usr/"


def main(environment: Path) -> None:
    """Do all three; nothing without matplotlib."""
    library = next((environment / "lib").glob("python3*")) / "site-packages"
    if not (library / "matplotlib").is_dir():
        return  # whoever took it out of the requirements wants no figures
    shutil.copyfile(Path(__file__).parent / "figures.py", library / f"{BACKEND}.py")
    with (library / "matplotlib" / "mpl-data" / "matplotlibrc").open("a", encoding="utf-8") as defaults:
        defaults.write(f"\nbackend: module://{BACKEND}\n")
    sys.stdout.write("Listing the fonts\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as empty:
        _list_fonts(environment / "lib" / FONTS, Path(empty))


def _list_fonts(folder: Path, home: Path) -> None:
    """Make the list as in an account without fonts of its own; keep of it what every sandbox sees."""
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        del os.environ[name]
    os.environ["HOME"] = str(home)
    os.environ["MPLCONFIGDIR"] = str(folder)
    import matplotlib.font_manager  # noqa: PLC0415, F401 - makes the list when it is imported

    (file,) = folder.glob("fontlist-*.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    for kind in ("ttflist", "afmlist"):
        content[kind] = [font for font in content[kind] if _is_seen(font["fname"])]
    if not content["ttflist"]:
        sys.exit("matplotlib found no font, not even its own")
    for other in folder.iterdir():
        if other != file:
            other.unlink()
    file.write_text(json.dumps(content), encoding="utf-8")


def _is_seen(font: str) -> bool:
    """matplotlib's own fonts are named from its own folder."""
    return not font.startswith("/") or font.startswith(_SEEN_BY_GUESTS)


main(Path(sys.argv[1]))
