"""An interpreter that stays: it runs one cell after another in one ``__main__``, and says what became of each.

What is called between two cells was bound when this file was loaded: a program may put what it likes into the modules.
"""

import builtins
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import cells
import channel
import failures
import finalization
import frames
import interrupts
import packages
import results
import streams

_INTERRUPTED = 130
_TOY = "import sys\nclass Toy: pass\nprint(end='')\n[1, 2.5, {'toy': None}]"


class Ended(NamedTuple):
    """The interpreter's end: its exit code, and what watches the program's calls."""

    code: int
    observers: Any


class Session:
    """One interpreter. ``namespace`` is that of its ``__main__``."""

    def __init__(self, descriptor: int, namespace: dict[str, Any]) -> None:
        self._channel = channel.Channel(descriptor)
        self._namespace = namespace
        self._main = sys.modules["__main__"]
        self._process = os.getpid()
        self._compiler = cells.Compiler()
        self._loop = cells.Loop()
        self._displays = results.Displays()
        self._observers: Any = frames.Observers()
        self._leaving: int | None = None
        vars(builtins)["display"] = self._displays.display
        if sys.version_info < (3, 13):  # there the interpreter itself finds the lines of cells
            sys.excepthook = _show
            threading.excepthook = _show_of_thread

    def warm_up(self) -> None:
        """Run a toy, so that its page faults are paid before the first cell comes. Writes nothing."""
        code = cells.Compiler().compile(_TOY, "<toy>")
        frames.play(partial(exec, code, {"__name__": "toy"}))
        results.encode(0, results.bundle([1]))
        cells.forget("<toy>")

    def serve(self) -> Ended:
        """Run cells until no more come, or one ends the interpreter."""
        self._channel.ready()
        while cell := self._channel.receive():
            reply = self._run(cell)
            if self._leaving is not None:
                break
            self._channel.reply(reply)
        if os.getpid() == self._process:
            frames.play(self._loop.close)
        return Ended(self._leaving or 0, self._observers)

    def _run(self, cell: channel.Cell) -> bytes:
        """Run a cell; the reply to it. SIGINT interrupts it until the reply is made."""
        try:
            interrupts.turn_on()
            self._begin(cell)
            result, failure = self._value(cell)
            return self._finish(result, failure)
        except KeyboardInterrupt as late:  # while it was being finished
            interrupts.turn_off()
            return self._finish(None, late)
        finally:
            interrupts.turn_off()

    def _begin(self, cell: channel.Cell) -> None:
        """What each cell finds, whatever the one before has done."""
        self._channel.restore_streams(cell.stdin)
        streams.open_input()
        streams.reopen_output()
        sys.modules["__main__"] = self._main
        sys.argv = cell.argv
        os.environ.update(cell.options.get("env", {}))
        if "TZ" in cell.options.get("env", {}):
            time.tzset()
        self._namespace.pop("__warningregistry__", None)  # a warning of this cell's first line is another one
        finder: Any = sys.path_importer_cache.get(sys.path[0]) if sys.path else None
        if finder is not None:
            finder.invalidate_caches()  # it looks again for modules that were written within the clock's last tick
        self._loop.offer()
        packages.make_ready(cell.code.encode("utf-8", "replace"))

    def _value(self, cell: channel.Cell) -> tuple[results.Bundle | None, BaseException | None]:
        """What the cell's value looks like, or what it raised."""
        try:
            code = self._compiler.compile(cell.code, cell.file)
        except BaseException as error:
            return None, error
        run = (
            partial(self._loop.run, code, self._namespace)
            if cells.awaits(code)
            else partial(eval, code, self._namespace)
        )
        failure = self._play(run)
        value = self._namespace.pop(cells.VALUE, None)
        if failure is not None or value is None:
            return None, failure
        vars(builtins)["_"] = value
        shown: list[results.Bundle] = []
        failure = self._play(lambda: shown.append(results.bundle(value)))
        return (shown[0], None) if shown else (None, failure)

    def _play(self, step: Callable[[], object]) -> BaseException | None:
        """Call it with no frame of ours below, watched by what the program has set to watch its calls."""
        played = frames.play(*self._observers.steps(), step)
        self._observers = played.observers
        return played.failure

    def _finish(self, result: results.Bundle | None, failure: BaseException | None) -> bytes:
        """Show what was raised, and write what buffers hold."""
        code = self._report(failure) if failure is not None else 0
        if os.getpid() != self._process:  # a child that the program forked has come to the end of its code
            self._leaving = code
        if self._leaving is not None:
            return b""
        if code != _INTERRUPTED:
            packages.close_figures()
        displayed = self._displays.take()
        reply = results.encode(code, result or displayed)
        self._observers = failures.flush_as_after_a_file(self._observers)
        finalization.flush_session()
        return reply

    def _report(self, failure: BaseException) -> int:
        """The cell's exit code; of a program that wants to end, the interpreter's."""
        trace = cells.without_asyncio(frames.only_the_program_s(failure.__traceback__))
        code, self._observers = failures.report(failure.with_traceback(trace), self._observers)
        if isinstance(failure, SystemExit):
            self._leaving = code & 0xFF
        return _INTERRUPTED if isinstance(failure, KeyboardInterrupt) else code


def _show(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Show an exception as the interpreter does, but with the lines of cells."""
    traceback.print_exception(kind, error, trace)


def _show_of_thread(arguments: Any) -> None:
    if arguments.exc_type is SystemExit:
        return
    name = arguments.thread.name if arguments.thread is not None else threading.get_ident()
    sys.stderr.write(f"Exception in thread {name}:\n")
    traceback.print_exception(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
