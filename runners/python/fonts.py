"""Which font file a name stands for: Arial, Times, SimHei and their kin, for matplotlib, pillow and reportlab.

Installed among the data packages as ``codex_fonts``. The files lie in the environment's ``lib/fonts``, where
``post_install.py`` puts them; those of a name that a program asks for have the same metrics or show the same script.
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

FOLDER = os.path.join(sys.prefix, "lib", "fonts")
LIST = os.path.join(sys.prefix, "lib", "matplotlib-cache")
"""Folder with the list of fonts, made by ``post_install.py``."""
FALLBACKS = ("WenQuanYi Micro Hei", "Noto Sans Devanagari", "Noto Emoji", "Noto Sans Symbols")
"""Families that show what the program's font cannot; ``further_scripts`` come after them."""

_STYLES = (("",), ("bold", "bd", "b"), ("italic", "oblique", "i", "it"), ("bolditalic", "boldoblique", "bi", "z"))
_SANS = ("Arimo-Regular.ttf", "Arimo-Bold.ttf", "Arimo-Italic.ttf", "Arimo-BoldItalic.ttf")
_SERIF = ("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf")
_MONO = ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSansMono-Oblique.ttf",
         "DejaVuSansMono-BoldOblique.ttf")  # fmt: skip
_CJK = ("WenQuanYiMicroHei.ttc",) * 4
_DEVANAGARI = ("NotoSansDevanagari.ttf",) * 4
_EMOJI = ("NotoEmoji.ttf",) * 4
_FAMILIES = {
    "Arial, Arial MT, Helvetica, Helvetica Neue, Liberation Sans, Nimbus Sans, FreeSans": _SANS,
    "Times New Roman, Times, Times Roman, Liberation Serif, Nimbus Roman, FreeSerif": _SERIF,
    "Courier New, Courier, Liberation Mono, Nimbus Mono, Nimbus Mono PS, FreeMono, Cour": _MONO,
    "SimHei, SimSun, NSimSun, KaiTi, FangSong, Microsoft YaHei, msyh, DengXian, Deng, PingFang, PingFang SC, "
    "PingFang TC, Heiti SC, Heiti TC, STHeiti, STSong, Songti SC, Hiragino Sans GB, WenQuanYi Zen Hei, wqy-zenhei, "
    "wqy-microhei, Droid Sans Fallback, Microsoft JhengHei, msjh, PMingLiU, Arial Unicode MS, Arial Unicode, Source "
    "Han Sans, Source Han Sans SC, Source Han Sans CN, Source Han Sans TC, Source Han Sans JP, Noto Sans CJK, Noto "
    "Sans CJK SC, Noto Sans CJK TC, Noto Sans CJK HK, Noto Sans CJK JP, Noto Sans CJK KR, Noto Sans SC, Noto Sans "
    "TC, Noto Sans HK, Noto Sans JP, Noto Sans KR, Noto Serif CJK, Noto Serif CJK SC, Noto Serif CJK JP, MS Gothic, "
    "MS Mincho, Meiryo, Yu Gothic, YuGothic, Hiragino Sans, Hiragino Kaku Gothic Pro, IPAexGothic, IPAGothic, "
    "ipaexg, ipag, TakaoGothic, TakaoPGothic, VL Gothic, Malgun Gothic, malgun, NanumGothic, Nanum Gothic, Nanum "
    "Barun Gothic, AppleGothic, Gulim, Apple SD Gothic Neo, Batang": _CJK,
    "Mangal, Nirmala UI, Nirmala, Lohit Devanagari, Kohinoor Devanagari, Devanagari MT, Noto Sans Devanagari UI, "
    "Noto Serif Devanagari": _DEVANAGARI,
    "Noto Color Emoji, Segoe UI Emoji, seguiemj, Apple Color Emoji, Twemoji, Twitter Color Emoji, Symbola": _EMOJI,
}  # fmt: skip


def families() -> dict[str, tuple[str, ...]]:
    """By each family's name that is an alias, its files: regular, bold, italic, bold italic."""
    return {name.strip(): files for names, files in _FAMILIES.items() for name in names.split(",")}


def find(name: Any) -> str | None:
    """The file that stands for a font's file name, with or without a folder and an ending; None when there is none."""
    try:
        file = os.path.basename(os.fsdecode(name))
    except TypeError:  # an open file, and not a name
        return None
    found = _known().get(_key(file))
    return os.path.join(FOLDER, found) if found else None


def load_manager(module: Any) -> Any:
    """matplotlib's manager of fonts from the list that was made beforehand; ``module`` is its ``font_manager``.

    Whatever font is asked for, each glyph that it has not is looked for in the fallbacks.
    """
    _follow(module.FontManager)
    version = module.FontManager.__version__
    try:
        manager = module.json_load(os.path.join(LIST, f"fontlist-v{version}.json"))
    except (OSError, ValueError):  # post_install.py is about to make it
        return module._load_fontmanager()
    return manager if manager._version == version else module._load_fontmanager()


def _follow(manager: Any) -> None:
    original = manager._find_fonts_by_props

    @functools.wraps(original)
    def find_fonts(self: Any, prop: Any, fontext: str = "ttf", directory: Any = None, *args: Any, **more: Any) -> Any:
        found = original(self, prop, fontext, directory, *args, **more)
        if fontext != "ttf" or directory is not None:
            return found
        return [*found, *(path for path in _fallbacks(self) if path not in found)]

    manager._find_fonts_by_props = find_fonts


def with_names(load: Callable[..., Any]) -> Callable[..., Any]:
    """``load``, a function that opens a font's file, tried once more with the file that stands for it."""

    @functools.wraps(load)
    def load_by_name(font: Any = None, *args: Any, **more: Any) -> Any:
        try:
            return load(font, *args, **more)
        except Exception:
            file = find(font)
            if file is None or file == font:
                raise
        return load(file, *args, **more)

    return load_by_name


def further_scripts(names: Iterable[str]) -> list[str]:
    """Of the families ``names`` those of a script of its own, in order: what comes after the fallbacks."""
    return sorted({name for name in names if name.startswith("Noto Sans ")} - set(FALLBACKS) - set(families()))


def _fallbacks(manager: Any) -> list[Any]:
    """The files of the fallbacks as matplotlib names them (before 3.11 without the number in a collection)."""
    found: list[Any] | None = getattr(manager, "_codex_fallbacks", None)
    if found is None:
        own = {font.name: font for font in manager.ttflist if _is_own(font.fname)}
        fonts = [own[name] for name in (*FALLBACKS, *further_scripts(own)) if name in own]
        path = getattr(sys.modules[type(manager).__module__], "FontPath", lambda file, index: file)
        found = manager._codex_fallbacks = [path(font.fname, font.index) for font in fonts]
    return found


def _is_own(file: str) -> bool:
    return "fonts" in file and os.path.normpath(os.path.dirname(file)) == os.path.normpath(FOLDER)


@functools.cache
def _known() -> dict[str, str]:
    """Files of the folder by every name that they go by."""
    files = sorted(os.listdir(FOLDER)) if os.path.isdir(FOLDER) else []
    known = {
        _key(name) + suffix: file
        for name, faces in families().items()
        for file, suffixes in zip(faces, _STYLES, strict=True)
        for suffix in suffixes
        if file in files
    }
    return known | {_key(file): file for file in files}


def _key(name: str) -> str:
    """What is left of a font's name when case, punctuation, ending and the word for the plain style are taken away."""
    stem = re.sub(r"\.(ttf|ttc|otf|otc)$", "", name.lower())
    return re.sub(r"[^a-z0-9]|regular", "", stem)
