"""Completes a new environment of data packages: run by its interpreter, with the environment's folder as argument.

Lays out the fonts, hands over what programs show (``figures.py``, ``shown.py``), makes the list of fonts that
matplotlib would otherwise make in each sandbox anew (1 s with a full set of fonts), and leaves out what no program can
use here.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

FONTS = "matplotlib-cache"
"""Folder below ``lib`` with the list of fonts; ``fonts.py`` and ``packages.py`` look for it there."""
BACKEND = "codex_figures"
_SEEN_BY_GUESTS = "/usr/"
_MODULES = ("figures", "fonts", "shown")
"""Files beside this one that become modules ``codex_...``."""
_BOLD = 700
_HOOKS = {
    "PIL/ImageFont.py": "import codex_fonts\ntruetype = codex_fonts.with_names(truetype)",
    "PIL/ImageShow.py": "import codex_shown\ncodex_shown.follow_pillow(sys.modules[__name__])",
    "reportlab/pdfbase/ttfonts.py": "import codex_fonts\nTTFOpenFile = codex_fonts.with_names(TTFOpenFile)",
    "plotly/io/_renderers.py": "import sys, codex_shown\ncodex_shown.follow_plotly(sys.modules[__name__])",
}
"""What is added to the end of a package's file, so that every interpreter has it, the agent's or not."""
_LOADS_FONTS = "\nfontManager = _load_fontmanager()\n"
"""In matplotlib's ``font_manager.py``: looks for a list in the account's cache, and for fonts when it has none."""
_NEEDLESS = (
    "plotly/labextension", "plotly/package_data/widgetbundle.js",  # for notebooks
    "pyarrow/libarrow_flight*", "pyarrow/_flight*", "pyarrow/flight.py",  # for networks
    "pyarrow/libarrow_s3*", "pyarrow/_s3fs*", "pyarrow/_gcsfs*", "pyarrow/_azurefs*", "pyarrow/_hdfs*",
    "pyarrow/libarrow_python*.so", "pyarrow/libarrow_python*.so.*.*",  # copies under a second and third name
    "pyarrow/src",
)  # fmt: skip
"""Of large packages what only a network, a notebook or a compiler needs: 70 MB."""
_FONT_PACKAGES = {
    "paperang_p2_fonts_cjk/fonts": {"wqy-microhei.ttc": "WenQuanYiMicroHei.ttc"},
    "fontpkg_arimo/files": {"Arimo[wght].ttf": "Arimo-Regular.ttf", "Arimo-Italic[wght].ttf": "Arimo-Italic.ttf"},
    "manimgx_fonts": {},
}
"""Where packages of fonts keep them, and the names that they get; others lose what stands in brackets."""
_ONLY_ELSEWHERE = ("NotoSans[", "NotoSans-")
"""Latin fonts that nobody would choose."""


def main(environment: Path) -> None:
    """Do it all; what concerns a package that is not there is left out."""
    library = next((environment / "lib").glob("python3*")) / "site-packages"
    for name in _MODULES:
        shutil.copyfile(Path(__file__).parent / f"{name}.py", library / f"codex_{name}.py")
    for name, lines in _HOOKS.items():
        if (library / name).is_file():
            _append(library / name, lines)
    for pattern in _NEEDLESS:
        for path in library.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _say("Laying out the fonts")
    _lay_out_fonts(library, environment / "lib" / "fonts")
    if not (library / "matplotlib").is_dir():
        return  # whoever took it out of the requirements wants no figures
    _append(library / "matplotlib" / "mpl-data" / "matplotlibrc", f"backend: module://{BACKEND}")
    _use_our_list(library / "matplotlib" / "font_manager.py")
    _say("Listing the fonts")
    with tempfile.TemporaryDirectory() as empty:
        _list_fonts(environment, Path(empty))


def _say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _append(file: Path, lines: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(f"\n{lines}\n")


def _use_our_list(manager: Path) -> None:
    source = manager.read_text(encoding="utf-8")
    if _LOADS_FONTS not in source:
        sys.exit(f"matplotlib does not load its fonts by{_LOADS_FONTS}any more; take an older one in requirements.txt")
    ours = "\nimport codex_fonts\nfontManager = codex_fonts.load_manager(sys.modules[__name__])\n"
    manager.write_text(source.replace(_LOADS_FONTS, ours), encoding="utf-8")


def _lay_out_fonts(library: Path, folder: Path) -> None:
    """Put all fonts into ``folder``: those of packages that hold nothing else, and links to matplotlib's own."""
    folder.mkdir(parents=True)
    for package, names in _FONT_PACKAGES.items():
        for file in sorted((library / package).glob("*.tt[fc]")):
            if not file.name.startswith(_ONLY_ELSEWHERE):
                file.rename(folder / names.get(file.name, file.name.partition("[")[0] + file.suffix))
        shutil.rmtree(library / package.partition("/")[0], ignore_errors=True)
    for file in (library / "matplotlib" / "mpl-data" / "fonts" / "ttf").glob("*.ttf"):
        (folder / file.name).symlink_to(os.path.relpath(file, folder))
    for style in ("Regular", "Italic"):
        if (folder / f"Arimo-{style}.ttf").is_file():
            _make_bold(folder / f"Arimo-{style}.ttf")


def _make_bold(file: Path) -> None:
    """Write the bold instance of a variable font beside it."""
    from fontTools.ttLib import TTFont  # type: ignore[import-not-found]  # noqa: PLC0415
    from fontTools.varLib.instancer import instantiateVariableFont  # type: ignore[import-not-found]  # noqa: PLC0415

    with TTFont(file) as font:
        bold = instantiateVariableFont(font, {"wght": 700}, updateFontNames=True)
        bold.save(file.with_name(file.name.replace("Regular", "Bold").replace("-Italic", "-BoldItalic")))


def _list_fonts(environment: Path, home: Path) -> None:
    """Make the list as in an account without fonts of its own; keep of it what every sandbox sees."""
    folder = environment / "lib" / FONTS
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        del os.environ[name]
    os.environ["HOME"] = str(home)
    os.environ["MPLCONFIGDIR"] = str(folder)
    import matplotlib.font_manager  # noqa: PLC0415 - makes the list when it is imported

    (file,) = folder.glob("fontlist-*.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    for kind in ("ttflist", "afmlist"):
        content[kind] = [font for font in content[kind] if _is_seen(font["fname"])]
    if not content["ttflist"]:
        sys.exit("matplotlib found no font, not even its own")
    content["ttflist"] += _own_fonts(environment / "lib" / "fonts", Path(matplotlib.get_data_path()))
    for other in folder.iterdir():
        if other != file:
            other.unlink()
    file.write_text(json.dumps(content), encoding="utf-8")


def _is_seen(font: str) -> bool:
    """matplotlib's own fonts are named from its own folder."""
    return not font.startswith("/") or font.startswith(_SEEN_BY_GUESTS)


def _own_fonts(folder: Path, data: Path) -> list[dict[str, Any]]:
    """Entries of the list for the fonts in ``folder``, then for the other names that they go by."""
    import codex_fonts  # type: ignore[import-not-found]  # noqa: PLC0415
    from matplotlib.font_manager import ttfFontProperty  # noqa: PLC0415
    from matplotlib.ft2font import FT2Font  # noqa: PLC0415

    entries = {}
    for file in sorted(folder.iterdir()):
        entry = vars(ttfFontProperty(FT2Font(str(file))))
        fname = os.path.relpath(file, data)  # from matplotlib's folder, as it names its own
        entries[file.name] = entry | {"fname": fname, "__class__": "FontEntry"}
    listed = [entries[file.name] for file in sorted(folder.iterdir()) if not file.is_symlink()]
    names = codex_fonts.families().items()
    listed += [
        entries[file] | {"name": name} for name, files in names for file in dict.fromkeys(files) if file in entries
    ]
    bold = {font["name"] for font in listed if font["weight"] == _BOLD}
    # Where a family has one face it is the bold one too: matplotlib warns of a weight that it does not find.
    return listed + [font | {"weight": _BOLD} for font in listed if font["name"] not in bold]


main(Path(sys.argv[1]))
