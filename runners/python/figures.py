"""Hands the figures of a program back: those it shows, and those it leaves open at its end.

Installed among the data packages as ``codex_figures``, where it is matplotlib's default backend: Agg, and a window is a
file. A figure that the program saved itself is not saved again.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from matplotlib import backend_bases
from matplotlib._pylab_helpers import Gcf
from matplotlib.backends.backend_agg import FigureCanvasAgg

_MARK = "_codex_saved"
_MOST = 50
"""Figures of one program; what is beyond is not saved."""


class FigureManager(backend_bases.FigureManagerBase):  # type: ignore[misc]
    """The window of a figure, which is a file."""

    def show(self) -> None:
        """One figure; it stays open."""
        save(self.canvas.figure)

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:
        """All figures; a call that would wait until their windows are closed closes them."""
        if block is False:
            return
        for manager in Gcf.get_all_fig_managers():
            save(manager.canvas.figure)
        Gcf.destroy_all()


class FigureCanvas(FigureCanvasAgg):  # type: ignore[misc]
    """Agg's."""

    manager_class = FigureManager


def save_open() -> None:
    """Save what is still open; called when the program has ended."""
    for manager in Gcf.get_all_fig_managers():
        save(manager.canvas.figure)


def save(figure: Any) -> None:
    """Write ``figure`` beside the program as ``figure-N.png``, unless it is empty or was saved before."""
    if getattr(figure, _MARK, False) or not _shows_something(figure):
        return
    file = _next_file(_folder())
    if file is None:
        return
    with file:
        try:
            figure.savefig(file, format="png")
        except BaseException:
            os.unlink(file.name)
            raise


def _shows_something(figure: Any) -> bool:
    return any(artist is not figure.patch for artist in figure.get_children())


def _folder() -> str:
    """The program's own, for it is what comes back; of a command without a file the current one."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.dirname(os.path.abspath(file)) if file else os.getcwd()


def _next_file(folder: str) -> BinaryIO | None:
    """The first ``figure-N.png`` that is not there, opened; nothing is ever overwritten."""
    for number in range(1, _MOST + 1):
        try:
            return open(os.path.join(folder, f"figure-{number}.png"), "xb")
        except FileExistsError:
            continue
    return None


def _mark_what_is_saved() -> None:
    """Notice each ``savefig`` that succeeds, whatever backend the program chose.

    Not by a wrapper around ``print_figure``: matplotlib would blame that for its warnings, not the program's line.
    """
    original = backend_bases.FigureCanvasBase._switch_canvas_and_return_print_method

    @contextlib.contextmanager
    def switch(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with original(self, *args, **kwargs) as print_method:
            yield print_method
        setattr(self.figure, _MARK, True)

    backend_bases.FigureCanvasBase._switch_canvas_and_return_print_method = switch


_mark_what_is_saved()
