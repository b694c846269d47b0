"""The code of a cell: compiled with its last expression as its value, and run, inside an event loop where it awaits."""

import __future__

import ast
import inspect
import linecache
import os
import sys
from collections.abc import Coroutine
from types import CodeType, TracebackType
from typing import Any

VALUE = " value"
"""Where a cell leaves its value, in its namespace: no name that a program could write."""
_TREE = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_FUTURES = [getattr(__future__, name).compiler_flag for name in __future__.all_feature_names]


class Compiler:
    """Compiles one cell after another; a ``from __future__ import`` holds for all that follow."""

    def __init__(self) -> None:
        self._future = 0

    def compile(self, source: str, file: str) -> CodeType:
        """Statements and last expression as one code object, so that a task made in one is awaited in the other.

        Raises what ``compile`` raises.
        """
        source = source.removeprefix("\ufeff")
        lines = source.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):  # as linecache reads a file, which counts on it
            lines[-1] += "\n"
        linecache.cache[file] = len(source), None, lines, file
        tree: Any = compile(source, file, "exec", self._future | _TREE, dont_inherit=True)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr) and not _is_silent(source, last):
            target = ast.copy_location(ast.Name(VALUE, ast.Store()), last)
            tree.body[-1] = ast.copy_location(ast.Assign([target], last.value), last)
        flags = self._future | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code: CodeType = compile(tree, file, "exec", flags, dont_inherit=True)
        self._future |= sum(flag for flag in _FUTURES if code.co_flags & flag)
        return code


def _is_silent(source: str, last: ast.Expr) -> bool:
    """Whether a semicolon follows the expression."""
    lines = source.encode().splitlines()[(last.end_lineno or 1) - 1 :]
    return bool(lines) and lines[0][last.end_col_offset :].lstrip().startswith(b";")


def forget(file: str) -> None:
    """Take the lines of that cell away."""
    linecache.cache.pop(file, None)


def awaits(code: CodeType) -> bool:
    """Whether it must run in an event loop."""
    return bool(code.co_flags & inspect.CO_COROUTINE)


class Loop:
    """The session's event loop, made when it is needed. Tasks go on only while a cell awaits."""

    def __init__(self) -> None:
        self._loop: Any = None

    def offer(self) -> None:
        """Have ``asyncio.get_event_loop()`` find it, though ``asyncio.run`` has taken it away; if asyncio is used."""
        if "asyncio" in sys.modules:
            sys.modules["asyncio"].set_event_loop(self._open())

    def run(self, code: CodeType, namespace: dict[str, Any]) -> None:
        """Run a cell that awaits. Raises what it raises."""
        loop = self._open()
        sys.modules["asyncio"].set_event_loop(loop)
        cell: Coroutine[Any, Any, Any] = eval(code, namespace)  # noqa: S307
        task = loop.create_task(cell)
        try:
            loop.run_until_complete(task)
        except KeyboardInterrupt as interrupt:
            raise self._interrupted(task, interrupt) from None
        finally:
            if task.done() and not task.cancelled():
                task.exception()  # which asyncio would report as never retrieved

    def close(self) -> None:
        """Cancel its tasks and wait for them, as ``asyncio.run`` does."""
        if self._loop is None or self._loop.is_closed() or self._loop.is_running():
            return
        asyncio = sys.modules["asyncio"]
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True)) if tasks else None
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _open(self) -> Any:
        import asyncio  # noqa: PLC0415 - 60 ms and 10 MiB that few programs need

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        return self._loop

    def _interrupted(self, task: Any, interrupt: KeyboardInterrupt) -> BaseException:
        """Let the cell unwind; the interruption, as if it had been raised where the cell waited."""
        if task.done():
            return interrupt
        task.cancel()
        try:
            self._loop.run_until_complete(task)
        except sys.modules["asyncio"].CancelledError as cancelled:
            interrupt.__traceback__ = without_asyncio(cancelled.__traceback__)
            interrupt.__context__ = None
        except BaseException as error:
            return error
        return interrupt


def without_asyncio(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is not the event loop's; all of it when there is none."""
    folder = os.path.dirname(getattr(sys.modules.get("asyncio"), "__file__", None) or "")
    program = trace
    while folder and program is not None and os.path.dirname(program.tb_frame.f_code.co_filename) == folder:
        program = program.tb_next
    return program or trace
