"""What an exception that nothing caught means: what is shown of it, and the exit code that it stands for."""

import ctypes
import operator
import os
import sys
from functools import partial
from typing import Any

import frames

_flush = operator.methodcaller("flush")
_write_to_stderr = ctypes.pythonapi.PySys_WriteStderr


def flush_as_after_a_file(observers: Any) -> Any:
    """Flush both streams, come what may."""
    for name in ("stderr", "stdout"):
        observers = frames.play(*observers.steps(), partial(_flush, vars(sys).get(name))).observers
    return observers


def report(failure: BaseException, observers: Any) -> tuple[int, Any]:
    """Show an exception that nothing caught, as ``PyErr_PrintEx`` does; the exit code it stands for."""
    if isinstance(failure, SystemExit):
        return _exit_code(failure, observers)
    trace = failure.__traceback__
    sys.last_type, sys.last_value, sys.last_traceback = type(failure), failure, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = failure
    if hasattr(sys, "excepthook"):
        shown = frames.play(*observers.steps(), partial(operator.call, sys.excepthook, type(failure), failure, trace))
        observers = shown.observers
        if isinstance(shown.failure, SystemExit):
            return _exit_code(shown.failure, observers)
        if shown.failure is not None:
            _report_broken_hook(shown.failure, failure)
    else:
        _complain("sys.excepthook is missing", failure)
    return 1, observers


def _report_broken_hook(second: BaseException, failure: BaseException) -> None:
    second.__context__ = None
    _complain("Error in sys.excepthook:", second)
    _complain("\nOriginal exception was:", failure)


def _complain(title: str, error: BaseException) -> None:
    """Show ``title`` and the error on stderr; when that is gone too nothing can be said, as in python3."""
    try:
        sys.stderr.write(title + "\n")
        sys.__excepthook__(type(error), error, error.__traceback__)
    except (OSError, ValueError, AttributeError):
        return


def _exit_code(leaving: SystemExit, observers: Any) -> tuple[int, Any]:
    """What ``SystemExit(code)`` means to the system: None is 0, a number itself, all else is printed and is 1."""
    code = leaving.code
    if code is None:
        return 0, observers
    if isinstance(code, int):
        return (code if -(2**63) <= code < 2**63 else -1), observers
    say = partial(print, code, file=sys.stderr, end="") if sys.stderr is not None else partial(_write_to_c_stderr, code)
    observers = frames.play(*observers.steps(), say).observers
    _write_to_stderr(b"\n")
    return 1, observers


def _write_to_c_stderr(code: object) -> None:
    os.write(2, str(code).encode("utf-8", "backslashreplace"))
