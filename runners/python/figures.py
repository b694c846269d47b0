"""Hands the figures of a program back: those it shows, and those it leaves open at its end.

Installed among the data packages as ``codex_figures``, where it is matplotlib's default backend: Agg, and a window is a
file. What a figure looked like in a file that comes back anyhow is not saved again; saved elsewhere (a folder that is
thrown away, memory) or changed since, it is.
"""

import atexit
import contextlib
import gc
import io
import os
import struct
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import codex_shown  # type: ignore[import-not-found]
import matplotlib
from matplotlib import backend_bases
from matplotlib._pylab_helpers import Gcf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageChops, ImageStat  # type: ignore[import-not-found]

_SAVED = "_codex_saved"
"""Attribute of a figure that was saved: the file that shows it as it was then, or None when that does not come back."""
_CHANGED = "_codex_changed"
"""Attribute of a figure: whether it became stale since then, but not by being drawn, which makes parts of it stale."""
_SHOWN = "_codex_shown"
"""Attribute of a figure whose window is open."""
_SMALL = 24 * 1024
"""A picture up to this length stands in most responses as it is."""
_MOST_PIXELS = 2**24
_PNG_SIZE_AT = 16
_UNSEEN = 4.0
"""The mean difference of a colour, of 255, that nobody sees in a chart."""
_DEEPEST = 60
"""So many calls at most lie between one of matplotlib's and ours."""
_made: list[weakref.ref[Figure]] = []
_loaded_by = os.getpid()
_ended = False


class FigureManager(backend_bases.FigureManagerBase):  # type: ignore[misc]
    """The window of a figure, which is a file."""

    def show(self) -> None:
        """One figure; it stays open."""
        save(self.canvas.figure)
        setattr(self.canvas.figure, _SHOWN, True)

    def destroy(self) -> None:
        """What the window showed last comes back too."""
        if getattr(self.canvas.figure, _SHOWN, False):
            save(self.canvas.figure)

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:
        """All figures; a call that would wait until their windows are closed closes them."""
        waits = not matplotlib.is_interactive() if block is None else block
        frames = _is_called_by("matplotlib.pyplot", "pause")  # of an animation: the first and the last come back
        for manager in Gcf.get_all_fig_managers():
            figure = manager.canvas.figure
            if not (frames and getattr(figure, _SHOWN, False)):
                save(figure)
            setattr(figure, _SHOWN, not waits)
        if waits:
            Gcf.destroy_all()


class FigureCanvas(FigureCanvasAgg):  # type: ignore[misc]
    """Agg's."""

    manager_class = FigureManager


def save_open() -> None:
    """Save what is still open, or was made without pyplot and never saved; called when the program has ended."""
    global _ended  # noqa: PLW0603 - a program ends once
    _ended = True
    for manager in Gcf.get_all_fig_managers():
        save(manager.canvas.figure)
    for figure in _figures_without_window():
        if not hasattr(figure, _SAVED):
            save(figure)


def save(figure: Any) -> None:
    """Write ``figure`` beside the program as ``figure-N.png``, unless it is empty or such a file shows it already."""
    if _comes_back(figure) or not _shows_something(figure):
        return
    content = io.BytesIO()
    figure.savefig(content, format="png")
    path = codex_shown.write("figure", "png", _smaller(content.getvalue()))
    setattr(figure, _SAVED, path)


def _smaller(content: bytes) -> bytes:
    """The picture with a palette of 256 colours, where it is large and looks the same so; else as it is.

    A chart is a third as long then, and stands in the response itself more often. One with many shades keeps them.
    """
    width, height = struct.unpack_from(">II", content, _PNG_SIZE_AT)
    if len(content) <= _SMALL or width * height > _MOST_PIXELS:
        return content
    whole = Image.open(io.BytesIO(content))
    if whole.mode == "RGBA" and whole.getchannel("A").getextrema() != (255, 255):
        return content
    colours = whole.convert("RGB")
    reduced = colours.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette, background = reduced.getpalette(), reduced.getpixel((0, 0))
    palette[3 * background : 3 * background + 3] = colours.getpixel((0, 0))  # a white that is nearly white is seen
    reduced.putpalette(palette)
    difference = ImageChops.difference(colours, reduced.convert("RGB"))
    if max(ImageStat.Stat(difference).rms) > _UNSEEN:
        return content
    result = io.BytesIO()
    reduced.save(result, "PNG", optimize=True, dpi=whole.info.get("dpi"))
    return min(content, result.getvalue(), key=len)


def _comes_back(figure: Any) -> bool:
    path = getattr(figure, _SAVED, None)
    return path is not None and not getattr(figure, _CHANGED, True) and os.path.exists(path)


def _shows_something(figure: Any) -> bool:
    return any(artist is not figure.patch for artist in figure.get_children())


def _figures_without_window() -> list[Any]:
    """Figures that the program holds and that never had a window."""
    if not _made:
        return []
    gc.collect()
    held = [figure for figure in (reference() for reference in _made) if figure is not None]
    return [figure for figure in held if figure.canvas.manager is None]


def _remember(cls: type[Figure], *_args: object, **_named: object) -> Any:
    """``Figure.__new__``: it has returned when the figure is made, so no frame of ours is seen in what warns there."""
    figure = object.__new__(cls)
    _made.append(weakref.ref(figure))
    return figure


def _notice_changes() -> None:
    original: Any = Figure.stale

    def set_stale(self: Any, value: bool) -> None:
        if value and not getattr(self, _CHANGED, True) and not _is_called_by("matplotlib.figure", "draw"):
            setattr(self, _CHANGED, True)
        original.fset(self, value)

    Figure.stale = property(original.fget, set_stale)


def _is_called_by(module: str, function: str) -> bool:
    frame: Any = sys._getframe()
    for _ in range(_DEEPEST):
        frame = frame and frame.f_back
        if frame and frame.f_code.co_name == function and frame.f_globals.get("__name__") == module:
            return True
    return False


def _mark_what_is_saved() -> None:
    """Notice each ``savefig`` that succeeds, whatever backend the program chose.

    Not by a wrapper around ``print_figure``: matplotlib would blame that for its warnings, not the program's line. So
    the name of the file is read from that function's frame.
    """
    original = backend_bases.FigureCanvasBase._switch_canvas_and_return_print_method

    @contextlib.contextmanager
    def switch(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        caller = sys._getframe(2)
        with original(self, *args, **kwargs) as print_method:
            yield print_method
        setattr(self.figure, _SAVED, _path_that_comes_back(caller.f_locals.get("filename")))
        setattr(self.figure, _CHANGED, False)

    backend_bases.FigureCanvasBase._switch_canvas_and_return_print_method = switch


def _path_that_comes_back(target: Any) -> str | None:
    """The path of what was saved to (a path, an open file, a ``PdfPages``) if it lies in the program's folder."""
    for name in ("name", "_filename"):
        if not isinstance(target, str | os.PathLike):
            target = getattr(target, name, target)
    if not isinstance(target, str | os.PathLike):
        return None
    path = os.path.abspath(os.fsdecode(target))
    above = path
    while above != os.path.dirname(above):
        above = os.path.dirname(above)
        with contextlib.suppress(OSError):
            if os.path.samefile(above, codex_shown.folder()):
                return path
    return None


def _save_at_exit() -> None:
    """In an interpreter without our agent (a new one, one that the program starts) nobody else calls ``save_open``."""
    if os.getpid() == _loaded_by and not _ended and os.environ.get("MPLBACKEND", "").lower() != "agg":
        try:
            save_open()
        except Exception as error:
            sys.stderr.write(f"a figure that was left open could not be saved: {type(error).__name__}: {error}\n")


_mark_what_is_saved()
_notice_changes()
Figure.__new__ = _remember
atexit.register(_save_at_exit)
