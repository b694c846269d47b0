"""What the agent does for the data packages (numpy, pandas, matplotlib and their kin), where they are installed.

In the zygote that preloads them: import them and use each once. In a worker: fresh randomness, and at the program's end
the figures that it left open. Nothing here costs a program that uses none of them.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import itertools
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FONTS = os.path.realpath(os.path.join(sys.prefix, "lib", "matplotlib-cache"))
"""Made by ``post_install.py``: the list of the fonts that every sandbox sees."""
FIGURES = "codex_figures"
_BACKENDS = "matplotlib.backend_bases"
_READ_AT_IMPORT = (
    "MPL", "_MPL", "MATPLOTLIB", "XDG_C", "OPENBLAS_", "GOTO_", "OMP_", "KMP_", "MKL_", "BLIS_", "NPY_", "NUMPY_",
    "NUMEXPR_", "PANDAS_", "PILLOW_", "PYPARSING", "PYTZ_", "ARROW_",
)  # fmt: skip
"""How the variables begin that these packages read when they are imported."""
_SETTINGS = "matplotlibrc"
_LEFT_OUT = ("pyarrow",)
"""What preloaded packages would import beside themselves where it is there: 29 MiB and a thread. A program that speaks
of it is sent where nothing is preloaded (``preload_not_for`` in ``runner.yaml``)."""

_figures_wanted = False
_program = 0
"""Its process; one that it forks has copies of its figures."""
_bound: dict[str, str] | None = None
"""Those variables as they were when the packages were preloaded; None when none were."""


def warm(preload: Sequence[str]) -> None:
    """Import what is there of ``preload`` and use it a little; the process has one thread afterwards.

    Raises ``ImportError`` when one is there and cannot be imported, and ``RuntimeError`` when a thread is left, which a
    fork would lose.
    """
    global _bound  # noqa: PLW0603 - one zygote, one warm-up
    if not preload:
        return
    _bound = _variables(os.environ)
    with _fonts_as_home(), _without(_LEFT_OUT):
        for name in preload:
            if importlib.util.find_spec(name.partition(".")[0]):
                importlib.import_module(name)
        _use_once()
    threading._counter = itertools.count(1).__next__  # type: ignore[attr-defined]  # some package has named a thread
    _end_threads()


def is_bound_otherwise(env: Mapping[str, str], file: str) -> bool:
    """Whether the program brings what preloaded packages have read elsewhere already: variables, settings, modules."""
    if _bound is None:
        return False
    own = _variables(env) != _bound or bool(env.get("PYTHONPATH"))
    return own or _has_settings(env) or _has_modules(os.path.dirname(os.path.realpath(file)))


def _has_settings(env: Mapping[str, str]) -> bool:
    """Whether matplotlib would find settings of the program's: here, or below its home."""
    home = os.path.join(env.get("HOME", ""), ".config", "matplotlib", _SETTINGS)
    return os.path.isfile(_SETTINGS) or os.path.isfile(home)


def _has_modules(folder: str) -> bool:
    """Whether a module beside the program goes before one that is imported already."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name, _, ending = entry.name.partition(".")
            if name in sys.modules and name not in sys.builtin_module_names:
                if ending in ("py", "pyc") or ending.endswith("so"):
                    return True
                if not ending and os.path.isfile(os.path.join(entry.path, "__init__.py")):
                    return True
    return False


@contextlib.contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """While it lasts these modules cannot be imported."""
    hidden: dict[str, Any] = dict.fromkeys(name for name in names if name not in sys.modules)
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def reseed() -> None:
    """INVARIANT: two workers of one zygote share no randomness, nor a key."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "multiprocessing.process" in sys.modules:
        process = sys.modules["multiprocessing.process"]
        process.current_process().authkey = os.urandom(32)


def make_ready(source: bytes) -> None:
    """Before the program runs: what it needs if it speaks of matplotlib."""
    global _figures_wanted, _program  # noqa: PLW0603 - one program in one process
    _program = os.getpid()
    _figures_wanted = os.path.isdir(FONTS) and os.environ.get("MPLBACKEND", "").lower() != "agg"
    if not _figures_wanted or b"matplotlib" not in source or _BACKENDS in sys.modules:
        return
    if not any(isinstance(finder, _FiguresFollow) for finder in sys.meta_path):
        sys.meta_path.insert(0, _FiguresFollow())


def save_figures() -> None:
    """Save what is open, unless the server or the request has asked for the plain backend (``MPLBACKEND=Agg``).

    An error is told on stderr and changes nothing.
    """
    if not _figures_wanted or _BACKENDS not in sys.modules or os.getpid() != _program:
        return
    try:
        importlib.import_module(FIGURES).save_open()
    except Exception as error:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"a figure that was left open could not be saved: {type(error).__name__}: {error}\n")


def close_figures() -> None:
    """Save what is open and close it, so that the next cell of a session does not hand it back again."""
    save_figures()
    if _figures_wanted and os.getpid() == _program and FIGURES in sys.modules:
        figures: Any = sys.modules[FIGURES]
        figures.Gcf.destroy_all()
        made = [(reference, reference()) for reference in figures._made]
        figures._made[:] = [made for made, figure in made if figure and not hasattr(figure, figures._SAVED)]


class _FiguresFollow(importlib.abc.MetaPathFinder):
    """Imports our figures right after matplotlib's backends, so that they notice what is saved from then on."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Once, and never again."""
        if name != _BACKENDS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec.loader if spec else None
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                with contextlib.suppress(ImportError):  # an environment of another making has none
                    importlib.import_module(FIGURES)

            loader.exec_module = exec_module
        return spec


def _variables(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_READ_AT_IMPORT)}


@contextlib.contextmanager
def _fonts_as_home() -> Iterator[None]:
    """While it lasts matplotlib takes the folder with the list of fonts for its own, which it wants to be writable.

    The zygote has no folder that is. Afterwards each worker's matplotlib looks for its folders anew.
    """
    access = os.access
    os.environ["MPLCONFIGDIR"] = FONTS
    os.access = lambda path, *args, **kwargs: path == FONTS or access(path, *args, **kwargs)
    try:
        yield
    finally:
        os.access = access
        del os.environ["MPLCONFIGDIR"]
        if matplotlib := sys.modules.get("matplotlib"):
            for name in ("get_configdir", "get_cachedir"):
                remembering = getattr(matplotlib, name)
                setattr(matplotlib, name, matplotlib._logged_cached("FOLDER=%s")(remembering.__wrapped__))


def _use_once() -> None:
    """Do what most programs do, so that what is made at the first time is made here."""
    if pandas := sys.modules.get("pandas"):
        table = pandas.DataFrame({"name": ["a", "b", "a"], "number": [1.0, 2.5, 3.0]})
        str(table.describe()), str(table.groupby("name").sum()), str(table.sort_values("number").head())
        pandas.read_csv(io.StringIO(table.to_csv()))
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        figure, axes = pyplot.subplots()
        axes.plot([1, 2], [3, 4], label="toy")
        axes.set_title("toy")
        axes.legend()
        figure.savefig(io.BytesIO())
        pyplot.close(figure)


def _end_threads() -> None:
    """OpenBLAS ends its threads when its process forks, and each process starts them anew when it needs them."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("a preloaded package keeps a thread; take it out of preload in runner.yaml")
