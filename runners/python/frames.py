"""Keeps our frames out of what a program sees of its stack.

CPython takes a frame that has not reached its RESUME instruction for one that does not exist yet, and skips it in
``sys._getframe``, in tracebacks and in all that builds on them (3.11 to 3.14). So a function without that instruction
is never seen, and a frame without a caller is the last of its stack. On a later Python nothing is changed.
"""

import ctypes
import importlib
import os
import sys
import types
from collections.abc import Iterable

_FRAME_POINTER = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
_KNOWN = (3, 11) <= sys.version_info[:2] <= (3, 14) and object.__basicsize__ == 16


def hide(functions: Iterable[types.FunctionType]) -> None:
    """Make calls of these functions invisible from now on."""
    opcodes = importlib.import_module("opcode").opmap
    resume, nothing = opcodes["RESUME"], opcodes["NOP"]
    for function in functions if _KNOWN else ():
        code = bytearray(function.__code__.co_code)
        for place in range(0, len(code), 2):
            if code[place] == resume:
                code[place] = nothing
        function.__code__ = function.__code__.replace(co_code=bytes(code))


def cut(frame: types.FrameType) -> None:
    """Make ``frame`` the last of its stack. INVARIANT: it must never return; whoever called it is lost."""
    if _PREVIOUS is not None:
        _word(_word(id(frame) + _FRAME_POINTER).value + _PREVIOUS).value = 0


def folders_of_callers(frame: types.FrameType | None) -> set[str]:
    """Where the code was loaded from that is running now, from ``frame`` outwards; the standard library apart."""
    files = set()
    while frame is not None:
        files.add(frame.f_globals.get("__file__"))
        frame = frame.f_back
    return {os.path.dirname(os.path.abspath(file)) for file in files if file} - {os.path.dirname(os.__file__)}


def _find_previous() -> int | None:
    """Where an interpreter's frame keeps the address of its caller's: read from two frames, not from a table."""
    child = sys._getframe()
    parent = child.f_back
    inner, outer = _word(id(child) + _FRAME_POINTER), _word(id(parent) + _FRAME_POINTER)
    return next((offset for offset in range(0, 72, 8) if _word(inner.value + offset).value == outer.value), None)


def _word(address: int) -> ctypes.c_size_t:
    return ctypes.c_size_t.from_address(address)


_PREVIOUS = _find_previous() if _KNOWN else None
