"""Ends the interpreter as ``python3`` does: by ``Py_FinalizeEx`` itself, at a fraction of its usual price.

Threads, ``atexit``, streams, daemon threads, signal handlers, ``__del__`` and the order in which all goes are the
interpreter's own doing. Of its 10 ms, and of the 1,700 pages that it copies in each worker, nearly all are for what the
zygote had loaded: modules that nobody misses, and the memory of a process that is about to go. So two objects of ours
are laid where the interpreter drops them at the right moment. The first, when modules are about to be cleared, puts the
warm ones aside and writes what open files hold. The second, when all other modules are cleared, leaves the process,
unless something is left that does something when it goes: then the warm modules are cleared too, and the interpreter
goes on to its own end. Where they are never met the same end comes later: nothing depends on them.
"""

import _io
import _signal  # type: ignore[import-not-found]
import builtins
import sys
import threading
import types

# What is called here is bound now: a program may put what it likes into these modules.
from _thread import _count as count_threads
from atexit import register as register_at_exit
from collections import deque
from collections.abc import Callable, Sequence
from ctypes import CDLL, c_void_p, cast, memmove, pythonapi, string_at
from fcntl import F_GETFL, fcntl
from functools import partial
from gc import get_objects
from io import IOBase
from operator import call
from os import O_ACCMODE, O_RDONLY, _exit, fstat, listdir
from stat import S_ISREG
from sys import is_finalizing, setprofile, settrace
from typing import Any, NoReturn
from weakref import ref

EXIT_MARK = 0x6279_6500
"""Above the exit code, whose low byte alone counts: the sandbox's supervisor then hears of the end when it begins."""
OPTIMIZATIONS = frozenset(["own-finalization"])
"""What only makes programs faster, by name; ``make bench ARGS='--only optimizations'`` measures without each."""
_KNOWN = (3, 11) <= sys.version_info[:2] <= (3, 14) and (object.__basicsize__, dict.__basicsize__) == (16, 48)
_C_LIBRARY = CDLL(None)
_fflush, _at_exit, _raise = map(partial(getattr, _C_LIBRARY), ("fflush", "__cxa_atexit", "raise"))
_py_exit = pythonapi.Py_Exit
_MODULES = sys.modules
"""The interpreter's own table, whatever a program makes of that name."""
_FRAMES = {types.GeneratorType: "gi_frame", types.CoroutineType: "cr_frame", types.AsyncGeneratorType: "ag_frame"}
_WRITERS = (_io.BufferedWriter, _io.BufferedRandom)
_block_signals = partial(_signal.pthread_sigmask, _signal.SIG_BLOCK, _signal.valid_signals())
_threads_at_exit: list[Any] = getattr(threading, "_threading_atexits")  # noqa: B009
Step = Callable[[], Any]


class _Dropped:
    """The kind of our two objects."""


class End:
    """One program's end.

    ``play`` calls a step with no frame of ours below, and leaves objects of the kind ``playing`` to be dropped.
    ``watching`` are the steps that set the program's tracer and profiler again. INVARIANT: what ``steps`` gives is the
    last that is played.
    """

    def __init__(self, play: Callable[..., object], watching: Sequence[Step], playing: type) -> None:
        self._play = play
        self._ours = (_Dropped, playing)
        self._watching = watching
        self._streams = [ref(stream) for stream in (sys.__stdout__, sys.__stderr__) if stream is not None]
        self._last: Any = types.ModuleType("\0")
        self._aside: dict[str, Any] = {}

    def steps(self, code: int, program: Sequence[str], *, interrupted: bool) -> list[Step]:
        """The calls that end the process with ``code``; ``interrupted``: by SIGINT, as after Ctrl-C.

        ``program`` are the names of the modules that came with it, the earliest first.
        """
        if self._watching and not count_threads() and not _threads_at_exit:
            threading._shutdown = int  # type: ignore[attr-defined]  # which no tracer sees: python3 has not loaded threading
        if count_threads():
            register_at_exit(_flush_files, regular=True)
        if interrupted:
            _at_exit(cast(_raise, c_void_p), _signal.SIGINT, None)
        elif _KNOWN and "own-finalization" in OPTIMIZATIONS:
            sys.ps2 = self._when_dropped(partial(self._before_modules, code, program))
        return [*self._watching, partial(_py_exit, EXIT_MARK | code & 0xFF)]

    def _when_dropped(self, step: Step) -> Any:
        """An object that calls ``step`` when nothing refers to it any more, unseen by the program's tracer."""
        if self._watching:
            unseen = [partial(settrace, None), partial(setprofile, None), step, *self._watching]
            step = partial(deque, map(call, unseen), 0)  # type: ignore[arg-type]
        return type("Dropped", (_Dropped,), {"__del__": staticmethod(step)})()

    def _before_modules(self, code: int, program: Sequence[str]) -> None:
        """Leave the interpreter the program's modules to clear, and a module of ours as the last of them."""
        if not is_finalizing():
            return
        if not count_threads():  # one that was stopped in the middle of a write keeps its file's lock for ever
            _flush_files()
        # Where a stream failed, or only its own methods could tell, the exit code is the interpreter's to say.
        if all(self._is_flushed(vars(sys).get(name)) for name in ("stdout", "stderr")):
            if not _is_something_left(self._ours) and all(map(_is_written_in_python, program)):
                self._leave(code)
            self._last.dropped = self._when_dropped(partial(self._after_modules, code))
        names = ["sys", "builtins", "__main__", *program]
        self._aside[self._last.__name__] = self._last  # they are cleared from the last to the first
        self._aside.update({name: _MODULES.pop(name) for name in names if name in _MODULES})
        _swap(self._aside, _MODULES)

    def _is_flushed(self, stream: object) -> bool:
        """Whether the interpreter has flushed it without an error; False too where only its own call could tell."""
        if stream is None:
            return True
        if type(stream) not in (_io.TextIOWrapper, _io.StringIO):
            return False
        try:
            return bool(stream.closed) or stream.flush() is None  # type: ignore[attr-defined]
        except Exception:
            return False

    def _after_modules(self, code: int) -> None:
        """End the process, or return for the interpreter to end it."""
        if not _is_something_left(self._ours, weakly=False):
            self._leave(code)
        self._clear_warm_modules()

    def _leave(self, code: int) -> NoReturn:
        for stream in filter(None, (reference() for reference in self._streams)):
            _flush(stream, type(stream))
        _fflush(None)  # what an extension module wrote with printf
        _block_signals()  # the notification may have to wait: a handler in between would make it fail
        _exit(EXIT_MARK | code & 0xFF)

    def _clear_warm_modules(self) -> None:
        """What ``Py_FinalizeEx`` would have done with them: names with one underscore first, then all others."""
        for module in reversed(list(self._aside.values())):
            if type(module) is types.ModuleType and module is not sys and module is not builtins:
                namespace = vars(module)
                for private in (True, False):
                    for name in list(namespace):
                        if (name.startswith("_") and not name.startswith("__")) is private and name != "__builtins__":
                            self._play(partial(namespace.__setitem__, name, None))


def _flush_files(*, regular: bool = False) -> None:
    """Write what the program's open files hold; collecting a cycle may close the descriptor under a buffer (bpo-17852).

    ``regular``: only those to which a write never has to wait. What compresses or encrypts writes when it is closed.
    """
    things = get_objects()
    for kind in (_io.TextIOWrapper, *_WRITERS):
        kinds = {one for one in set(map(type, things)) if issubclass(one, kind)}
        for file in [thing for thing in things if type(thing) in kinds] if kinds else ():
            if _is_backed_by_a_file(file, regular=regular):
                _flush(file, kind)


def flush_session() -> None:
    """Write what buffers hold while the program lives on: others are to see its files, and the server its output."""
    if _has_open_files():  # to look at every object has a price, where a session holds millions
        _flush_files(regular=True)
    _fflush(None)


def _has_open_files() -> bool:
    """Whether a regular file is open for writing; True where nobody can see that."""
    try:
        return any(map(_is_written, map(int, listdir("/proc/self/fd"))))
    except OSError:
        return True


def _is_written(descriptor: int) -> bool:
    try:
        return S_ISREG(fstat(descriptor).st_mode) and fcntl(descriptor, F_GETFL) & O_ACCMODE != O_RDONLY
    except OSError:  # the listing's own
        return False


def _is_backed_by_a_file(stream: Any, *, regular: bool) -> bool:
    """Whether only buffers of the interpreter's own kinds are between ``stream`` and its descriptor."""
    try:
        buffer = stream.buffer if isinstance(stream, _io.TextIOWrapper) else stream
        raw = buffer.raw if type(buffer) in _WRITERS else None
        return type(raw) is _io.FileIO and (not regular or S_ISREG(fstat(raw.fileno()).st_mode))
    except (ValueError, OSError, AttributeError):  # closed or detached
        return False


def _flush(stream: Any, kind: Any) -> None:
    """As that kind flushes; python3 says nothing either of what cannot be written when it ends."""
    try:
        kind.flush(stream)
    except (ValueError, OSError, RuntimeError):
        return


def _swap(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Exchange the contents of two dicts. No module is touched: that would copy its page, for each of hundreds."""
    head, size = object.__basicsize__, dict.__basicsize__ - object.__basicsize__
    content = string_at(id(one) + head, size)
    memmove(id(one) + head, id(other) + head, size)
    memmove(id(other) + head, content, size)


def _is_something_left(ours: tuple[type, ...], *, weakly: bool = True) -> bool:
    """Whether an object of the program's is alive that has something to do when it dies; ``weakly``: or a callback."""
    things = get_objects()
    apart = ours if weakly else (*ours, ref)
    kinds = {kind for kind in set(map(type, things)) if not issubclass(kind, apart) and _has_finalizer(kind)}
    return any(_acts_at_its_end(thing) for thing in things if type(thing) in kinds)


def _is_written_in_python(name: str) -> bool:
    """Whether the module's classes are: those of an extension can have something to do that does not show."""
    return str(getattr(_MODULES.get(name), "__file__", None)).endswith(".py")


def _has_finalizer(kind: type) -> bool:
    if issubclass(kind, ref):
        return True
    try:
        type.__getattribute__(kind, "__del__")
    except AttributeError:
        return False
    return True


def _acts_at_its_end(thing: object) -> bool:
    if type(thing) in _FRAMES:
        return getattr(thing, _FRAMES[type(thing)]) is not None
    if isinstance(thing, ref):
        return thing.__callback__ is not None
    try:
        return not (isinstance(thing, IOBase) and thing.closed)
    except Exception:
        return True
