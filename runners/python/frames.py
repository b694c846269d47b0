"""Calls what belongs to the program as the interpreter itself would: with no frame of ours below.

Whatever shows a stack (``sys._getframe``, tracebacks, tracers, ``faulthandler``) follows a chain that begins at the
thread's current frame (CPython 3.11 to 3.14). ``play`` takes that beginning away and calls from C, so that the
program's first frame has no caller, as under ``python3 main.py``; the limit of recursion counts from there too. On a
later Python nothing is taken away. All of this is for correctness, not for speed.
"""

import ctypes
import itertools
import operator
import os
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

_FRAME_POINTER = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
_KNOWN = (3, 11) <= sys.version_info[:2] <= (3, 14) and object.__basicsize__ == 16
_from_address = ctypes.c_size_t.from_address  # at the very end that module is empty
_WORD = ctypes.sizeof(ctypes.c_size_t)
_STATE_WORDS = 24
"""How far into a thread's state the way to its current frame may begin; it is the 8th to 12th word so far."""


class Observers(NamedTuple):
    """What the program has set to watch its calls; ours are not among them."""

    trace: Any = None
    profile: Any = None

    def steps(self) -> list[Callable[[], Any]]:
        """What sets them again. The profiler of ``cProfile`` is none that could be set from here."""
        pairs = zip(_SETTERS, self, strict=True)
        return [partial(setter, observer) for setter, observer in pairs if callable(observer)]


class Played(NamedTuple):
    """What became of the calls: what one of them raised, and what they have set to observe calls."""

    failure: BaseException | None
    observers: Observers


class Restored:
    """Calls ``go`` when nothing refers to it any more."""

    __slots__ = ("go",)
    go: Callable[[], object]
    __del__ = property(operator.attrgetter("go"))


class _Step(partial):  # type: ignore[type-arg]
    """A call that keeps something alive until it has returned."""

    kept: Restored


class _Calls(deque):  # type: ignore[type-arg]
    """To read ``next`` makes the first of the calls, and forgets it: no call in the eyes of a tracer."""

    go = property(deque.popleft)
    next = property(operator.methodcaller("go"))


def play(*steps: Callable[[], Any]) -> Played:
    """Call each of ``steps``, from C and from no frame, until one fails; what observes calls is off again afterwards.

    Not one Python function of ours is called, nor returned from, while the program's observers are on.
    """
    calls, observing, turning_off = _Calls(map(_Step, steps)), _Calls(_OBSERVING), _Calls(_TURNING_OFF)
    current = _current_frame()
    for step in calls:
        step.kept = Restored()
        step.kept.go = partial(setattr, current, "value", current.value)  # before an exception arrives here
    failure = step = None
    if _DEPTH is not None:
        remaining, limit = _DEPTH
        remaining.value = limit.value + _CALLS_BETWEEN
    try:
        while calls:
            current.value = 0
            _ = calls.next
    except BaseException as error:
        failure = error
    trace, profile = observing.next, observing.next
    if trace is not None or profile is not None:
        _ = turning_off.next, turning_off.next
    if failure is not None:
        failure.__traceback__ = without_ours(failure.__traceback__)
    return Played(failure, Observers(trace, profile))


def without_ours(trace: types.TracebackType | None) -> types.TracebackType | None:
    """The part of a traceback that is the program's."""
    while trace is not None and os.path.dirname(trace.tb_frame.f_code.co_filename) == _FOLDER:
        trace = trace.tb_next
    return trace


def only_the_program_s(trace: types.TracebackType | None) -> types.TracebackType | None:
    """A traceback without any frame of ours, wherever it is."""
    first = trace = without_ours(trace)
    while trace is not None:
        trace.tb_next = without_ours(trace.tb_next)
        trace = trace.tb_next
    return first


def folders_of_callers(frame: types.FrameType | None) -> set[str]:
    """Where the code was loaded from that is running now, from ``frame`` outwards; the standard library apart."""
    files = set()
    while frame is not None:
        files.add(frame.f_globals.get("__file__"))
        frame = frame.f_back
    return {os.path.dirname(os.path.abspath(file)) for file in files if file} - {os.path.dirname(os.__file__)}


def _current_frame() -> ctypes.c_size_t:
    """Where the interpreter notes the frame that this thread runs, for whoever calls this function."""
    if _WAY is None:
        return ctypes.c_size_t()
    first, *rest = _WAY
    address = _THREAD + first
    for offset in rest:
        address = _word(address).value + offset
    return _word(address)


def _find_way() -> tuple[int, ...] | None:
    """Offsets that lead from a thread's state to its note of the current frame; None when it is nowhere to be seen.

    Python 3.13 has the note in the state itself. 3.11 and 3.12 have it in a record on the C stack.
    """
    frame = _word(id(sys._getframe()) + _FRAME_POINTER).value
    places = [number * _WORD for number in range(_STATE_WORDS)]
    for place in places:
        if _word(_THREAD + place).value == frame:
            return (place,)
    for place, offset in ((place, offset) for place in places for offset in (0, _WORD)):
        record = _word(_THREAD + place).value
        if any(start <= record < end - 2 * _WORD for start, end in _stack()) and _word(record + offset).value == frame:
            return place, offset
    return None


def _find_depth() -> tuple[ctypes.c_int, ctypes.c_int] | None:
    """Where a thread's state counts how many calls may still be nested, and how many may be at most, side by side."""
    numbers = [ctypes.c_int.from_address(_THREAD + place) for place in range(0, _STATE_WORDS * _WORD, 4)]
    limit = sys.getrecursionlimit()
    pairs = [pair for pair in itertools.pairwise(numbers) if pair[1].value == limit]
    matches = [pair for pair in pairs if limit - 200 < pair[0].value < limit]
    return matches[0] if len(matches) == 1 else None


def _stack() -> Iterator[tuple[int, int]]:
    """The addresses of this process's first stack."""
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        for line in maps:
            if line.rstrip().endswith("[stack]"):
                start, end = line.split(maxsplit=1)[0].split("-")
                yield int(start, 16), int(end, 16)


def _word(address: int) -> ctypes.c_size_t:
    return _from_address(address)


def _this_thread() -> int:
    state = ctypes.pythonapi.PyThreadState_Get
    state.restype = ctypes.c_void_p
    return int(state())


_OBSERVING, _SETTERS = (sys.gettrace, sys.getprofile), (sys.settrace, sys.setprofile)
_TURNING_OFF = [partial(setter, None) for setter in _SETTERS]
_FOLDER = os.path.dirname(_word.__code__.co_filename)
_THREAD = _this_thread() if _KNOWN else 0
_WAY = _find_way() if _KNOWN else None
_DEPTH = _find_depth() if _KNOWN else None
_CALLS_BETWEEN = 3 if sys.version_info < (3, 12) else 0
"""How many of the calls that Python counts are between ``play`` and the program: Python 3.11 counts C's too."""
