"""The interpreter of a session: each cell is SQL, and its databases stay open, so that transactions last."""

import json
import os
import signal
import sys
from typing import Any

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "python"))

from channel import Cell, Channel
from database import Database, Interrupted
from request import MEMORY, Refused, Request, parse

_CHANNEL = 3
_INTERRUPTED = 130


class Interpreter:
    """Runs one cell after another."""

    def __init__(self) -> None:
        self._channel = Channel(_CHANNEL)
        self._open: dict[tuple[str, bool], Database] = {}
        self._running: Database | None = None

    def serve(self) -> None:
        """Until the channel ends."""
        signal.signal(signal.SIGINT, self._interrupt)
        self._channel.ready()
        while cell := self._channel.receive():
            reply = self._run(cell)
            sys.stderr.flush()
            self._channel.reply(json.dumps(reply, ensure_ascii=False).encode("utf-8", "replace"))
        for database in self._open.values():
            database.close()

    def _run(self, cell: Cell) -> dict[str, Any]:
        try:
            request = parse(cell.options.get("args", ()))
            self._running = self._database(request)
            table = self._running.run(cell.code, request)
        except Refused as error:
            sys.stderr.write(f"Error: {' '.join(str(error).split())}\n")
            return {"exit_code": 1, "result": None}
        except Interrupted:
            sys.stderr.write("Interrupted\n")
            return {"exit_code": _INTERRUPTED, "result": None}
        finally:
            self._running = None
        return {"exit_code": 0, "result": {"text/plain": table.as_text(), "application/json": table.as_json()}}

    def _database(self, request: Request) -> Database:
        """Open, and of the file that has this name now."""
        key = request.database, request.read_only and request.database != MEMORY
        if key in self._open and not self._open[key].is_current:
            self._open.pop(key).close()
        if key not in self._open:
            self._open[key] = Database(request.database, read_only=request.read_only)
        return self._open[key]

    def _interrupt(self, *_: object) -> None:
        if self._running is not None:
            self._running.interrupt()


if __name__ == "__main__":
    Interpreter().serve()
