"""Becomes the user's program inside an already warm, already confined Python interpreter.

The zygote imports this file once and calls ``warm``; a forked worker calls ``warm_up`` while it waits and ``run`` when
the code has come. Standard library only, CPython 3.11 or newer. What a program may observe is that of
``python3 main.py``, and ``docs/runners.md`` lists the few differences.
"""

import _signal  # type: ignore[import-not-found]
import atexit
import builtins
import ctypes
import gc
import importlib
import importlib.machinery
import importlib.util
import os
import site
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import StringIO
from typing import Any, NoReturn

globals()["__builtins__"] = vars(builtins).copy()

# What plain snippets import, chosen by cost: all of it together is 35 ms of imports and 5 MiB that every worker shares.
# Left out: asyncio (60 ms and 10 MiB by itself, few snippets use it), hashlib and ssl (4 MiB of OpenSSL whose state a
# fork would share), multiprocessing (its authentication key would be equal in all workers), logging, unittest, sqlite3.
PRELOADED = """
    _strptime base64 bisect collections contextlib copy csv dataclasses datetime decimal enum fractions functools heapq
    io itertools json linecache math operator pathlib random re shutil statistics string struct subprocess tempfile
    textwrap threading time traceback types typing
"""
# Under these locales python3 speaks UTF-8; any other is left to a newly started interpreter.
_UTF8_LOCALES = frozenset(("", "C", "POSIX", "C.UTF-8", "C.utf8"))
_HONOURED = frozenset(("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"))
# What python3 itself has imported when a program starts: a file of that name beside the program does not replace it.
_ALWAYS_LOADED = {"_collections_abc", "_sitebuiltins", "abc", "builtins", "codecs", "encodings", "genericpath", "io"}
_ALWAYS_LOADED |= {"os", "posixpath", "site", "stat", "sys", "zipimport"}
_TOY = """
import sys
def toy(n): return n if n < 2 else toy(n - 1) + toy(n - 2)
print(f"{toy(3):>4}", [1, 2.5, None], *map(str.upper, "a b".split()))
"""


def _load(name: str) -> Any:
    """The module beside this one; ``import`` would need its folder on the program's path."""
    file = os.path.join(os.path.dirname(__file__), f"{name}.py")
    loader = importlib.machinery.SourceFileLoader(name, file)
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, loader, origin=file))
    vars(module)["__builtins__"] = vars(builtins).copy()  # a program may put what it likes into the shared ones
    sys.modules[name] = module  # for those that are loaded after it; ``_forget`` takes out what has a file of ours
    module.__file__ = file
    loader.exec_module(module)
    return module


_finalization = _load("finalization")
_frames = _load("frames")
_modules = _load("modules")
_packages = _load("packages")
_interfaces = _load("interfaces")
_streams = _load("streams")
_failures = _load("failures")
_interrupts = _load("interrupts")
_channel = _load("channel")
_results = _load("results")
_cells = _load("cells")
_session = _load("session")
_C_LIBRARY = ctypes.CDLL(None)
_C_LIBRARY.fopen.restype = ctypes.c_void_p
_run_file = ctypes.pythonapi.PyRun_FileExFlags
_run_file.restype = ctypes.py_object
_run_file.argtypes = [
    ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.py_object, ctypes.py_object, ctypes.c_int, ctypes.c_void_p
]  # fmt: skip
_PY_FILE_INPUT = 257  # of Python.h


def warm(preload: Sequence[str] = ()) -> None:
    """Import what a plain snippet needs anyway, and hide us. Called once, in the zygote, while it has one thread.

    ``preload`` are modules of the data packages to import as well, as far as they are there. Raises ``ImportError``.
    """
    if sys.flags.no_site:
        site.main()
    for name in PRELOADED.split():
        importlib.import_module(name)
    _packages.warm(preload)
    _forget(_frames.folders_of_callers(sys._getframe()))  # here, because it looks at every module there is
    _modules.end()
    gc.collect()
    gc.freeze()


def warm_up() -> None:
    """Do what ``run`` will do, on a toy, so that its page faults are paid before the code arrives. Writes nothing."""
    _prepare(dict(os.environ))
    _interfaces.offer_loopback()
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = StringIO(), StringIO()
    try:
        toy = compile(_TOY, "<toy>", "exec", dont_inherit=True)
        _frames.play(partial(exec, toy, {"__name__": "toy"}))
    finally:
        sys.stdout, sys.stderr = streams
    gc.collect()
    gc.freeze()


def run(file: str, args: list[str], env: dict[str, str]) -> NoReturn:
    """Be ``python3 file args`` from here on; the process ends with that program's exit code.

    Descriptors 0 to 2 are its streams and the current folder is kept. INVARIANT: the caller has closed every other
    descriptor and finished all confinement; nothing of the caller runs again.
    """
    try:
        _live(file, args, env)
    except BaseException as error:  # out of memory, or a signal between the program's end and ours
        sys.__excepthook__(type(error), error, _frames.without_ours(error.__traceback__))
    finally:
        os._exit(1)


def _live(file: str, args: list[str], env: dict[str, str]) -> None:
    if _needs_new_interpreter(env, file):
        _start_new_interpreter(file, args, env)
    _prepare(env)
    sys.argv = [file, *args]
    sys.orig_argv = [sys.executable, *sys.argv]
    _put_program_first(file, env.get("PYTHONPATH", ""))
    known = frozenset(_modules.later())
    gc.freeze()  # before the program's own objects are made: they must stay collectable
    namespace = _fresh_main(file)
    ended = _frames.play(_open_program(file, namespace))
    code, observers = 0, _failures.flush_as_after_a_file(ended.observers)
    if ended.failure is not None:
        code, observers = _failures.report(ended.failure, observers)
    if not isinstance(ended.failure, SystemExit):
        for name in ("__file__", "__cached__"):  # python3 takes them away once it has run a file
            namespace.pop(name, None)
    interrupted = type(ended.failure) is KeyboardInterrupt
    del ended, namespace
    _end(code, observers, known, interrupted=interrupted)


def serve(channel: int, env: dict[str, str]) -> NoReturn:
    """Be an interpreter that stays: run the cells that come through the descriptor ``channel``, until it is closed.

    Descriptors 0 to 2 are its streams and the current folder is its workspace. INVARIANT: as for ``run``.
    """
    try:
        _serve(channel, env)
    except BaseException as error:
        sys.__excepthook__(type(error), error, _frames.without_ours(error.__traceback__))
    finally:
        os._exit(1)


def _serve(channel: int, env: dict[str, str]) -> None:
    _prepare(env, on_interrupt=_interrupts.ignore)
    _put_program_first("main.py", env.get("PYTHONPATH", ""))
    known = frozenset(_modules.later())
    gc.freeze()  # before the program's own objects are made: they must stay collectable
    session = _session.Session(channel, _fresh_main(None))
    session.warm_up()
    ended = session.serve()
    del session
    _end(ended.code, ended.observers, known)


def _end(code: int, observers: Any, known: frozenset[str], *, interrupted: bool = False) -> None:
    """End as ``python3`` does; ``known``: the modules that were there before the program."""
    if "matplotlib" in sys.modules:
        atexit.register(_packages.save_figures)  # when threads have ended, and before matplotlib closes its figures
    program = [name for name in reversed(_modules.later()) if name not in known and name != "__main__"]
    end = _finalization.End(_frames.play, observers.steps(), _frames.Restored)
    _frames.play(*end.steps(code, program, interrupted=interrupted))


# --- what a program finds when it starts ---


def _prepare(env: Mapping[str, str], on_interrupt: Any = _signal.default_int_handler) -> None:
    """What a program finds in its process; doing it twice is doing it once."""
    _reset_signals(on_interrupt)
    _replace_environment(env)
    _streams.open_standard(unbuffered=bool(env.get("PYTHONUNBUFFERED")))
    _reseed()
    sys.dont_write_bytecode = bool(env.get("PYTHONDONTWRITEBYTECODE"))


def _needs_new_interpreter(env: Mapping[str, str], file: str) -> bool:
    """Whether a variable asks for what only an interpreter that is about to start can do (hash seed, locale, ...)."""
    if _packages.is_bound_otherwise(env, file):
        return True
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    special = (name for name in env if name.startswith("PYTHON") and name not in _HONOURED)
    return locale not in _UTF8_LOCALES or any(env[name] for name in special)


def _start_new_interpreter(file: str, args: list[str], env: dict[str, str]) -> NoReturn:
    try:
        os.execve(sys.executable, [sys.executable, file, *args], env)  # noqa: S606
    except OSError as error:
        os.write(2, f"python: {sys.executable!r} cannot be started anew, as env asks: {error}\n".encode())
        os._exit(126)


def _replace_environment(env: Mapping[str, str]) -> None:
    """INVARIANT: the program's environment is ``env``; nothing of ours is left in it, nor in what subprocesses get."""
    if list(os.environ.items()) != list(env.items()):  # each change copies pages, and most often nothing differs
        os.environ.clear()
        os.environ.update(env)
    if not env.get("LC_ALL") and (env.get("LC_CTYPE") or env.get("LANG") or "C") in ("C", "POSIX"):
        os.environ["LC_CTYPE"] = "C.UTF-8"  # as python3 does at its start (PEP 538)
    if "TZ" in env:
        time.tzset()


def _reset_signals(on_interrupt: Any) -> None:
    """Handlers and mask as in a new interpreter; ``on_interrupt`` handles SIGINT."""
    usual: dict[int, Any] = {
        _signal.SIGINT: on_interrupt,
        _signal.SIGPIPE: _signal.SIG_IGN,
        _signal.SIGXFSZ: _signal.SIG_IGN,
    }
    for number in _signal.valid_signals():
        wanted = usual.get(number, _signal.SIG_DFL)
        if _signal.getsignal(number) not in (wanted, None) or number in usual:
            _signal.signal(number, wanted)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _reseed() -> None:
    """INVARIANT: two workers of one zygote share no randomness (``random`` sees to itself when it is forked)."""
    _packages.reseed()
    if "_ssl" in sys.modules:
        sys.modules["_ssl"].RAND_add(os.urandom(32), 32.0)


def _forget(own: set[str]) -> None:
    """Take our modules, our callers' and their folders out of what the program can import."""
    inside = tuple(folder + os.sep for folder in own)
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(inside):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if entry and entry not in own]
    for entry in own:
        sys.path_importer_cache.pop(entry, None)


def _put_program_first(file: str, python_path: str) -> None:
    """Modules are looked for beside the program, then in PYTHONPATH, then in the library."""
    extra = [os.path.abspath(entry) for entry in python_path.split(":")] if python_path else []
    sys.path[:0] = [os.path.dirname(os.path.realpath(file)), *extra]
    _forget_shadowed(os.listdir(sys.path[0]))


def _forget_shadowed(beside: list[str]) -> None:
    """A module beside the program goes before the library's of that name, though the latter is loaded already."""
    names = {entry.partition(".")[0] for entry in beside} - _ALWAYS_LOADED
    shadows = {name for name in names if name in sys.modules}
    for name in list(sys.modules) if shadows else ():
        if name.partition(".")[0] in shadows:
            del sys.modules[name]


def _fresh_main(file: str | None) -> dict[str, Any]:
    """The namespace of a new ``__main__`` module, with the names that python3 puts there, in its order.

    ``file``: None for a session's, which has no file.
    """
    main = types.ModuleType("__main__")
    namespace = main.__dict__
    loader = importlib.machinery.SourceFileLoader("__main__", file) if file else importlib.machinery.BuiltinImporter
    namespace["__loader__"] = loader
    if sys.version_info < (3, 14):
        namespace["__annotations__"] = {}
    namespace["__builtins__"] = sys.modules["builtins"]
    if file:
        namespace["__file__"] = file
        namespace["__cached__"] = None
    sys.modules["__main__"] = main
    return namespace


# --- the program itself ---


def _open_program(file: str, namespace: dict[str, Any]) -> Callable[[], object]:
    """The call that runs the program as ``python3`` does, from the file."""
    with open(file, "rb") as stream:
        _packages.make_ready(stream.read())
    opened = _C_LIBRARY.fopen(os.fsencode(file), b"rb")
    return partial(_run_file, opened, os.fsencode(file), _PY_FILE_INPUT, namespace, namespace, True, None)
