"""``codex-server log``: the history of executions in the state folder, also while a server writes it."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codex_server.cli.flags import StateDirFlag, gather_flags, settings_from_flags
from codex_server.cli.table import Columns, printable

if TYPE_CHECKING:
    from codex_server.service.history import ExecutionEntry

_POLL_SECONDS = 0.5
_MOST_CLIENT = 40
_HEADER = ("when (utc)", "who", "language", "status", "seconds", "code", "stdout", "stderr", "client", "request")
_KEPT_ON_REQUEST = ("code", "stdout", "stderr")


def log(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=0, help="Executions to begin with")] = 20,
    caller: Annotated[
        str | None, typer.Option("--caller", metavar="NAME", help="Only those of the token with this name")
    ] = None,
    show_code: Annotated[
        bool, typer.Option("--show-code", help="Programs and output too, if the server keeps them (CODEX_HISTORY_CODE)")
    ] = False,
    state_dir: StateDirFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs")] = False,
) -> None:
    """Show who ran what and what became of it, the newest last; sizes are bytes.

    An execution that has not ended is listed as unfinished, and with --follow again at its end. One whose server was
    killed stays so.
    """
    folder = settings_from_flags(gather_flags(None, state_dir=state_dir)).state_dir
    if not _there(folder, follow=follow):
        return
    render = JsonLines(show_code=show_code) if as_json else TextLines(show_code=show_code)
    asyncio.run(_show(folder, limit, caller, render, follow=follow))


Render = Callable[[Sequence["ExecutionEntry"]], Iterator[str]]


class JsonLines:
    """Each entry as a JSON object; the program and its output only with ``show_code``."""

    def __init__(self, *, show_code: bool) -> None:
        self._left_out = set[str]() if show_code else set(_KEPT_ON_REQUEST)

    def __call__(self, entries: Sequence["ExecutionEntry"]) -> Iterator[str]:
        """The lines of ``entries``."""
        for entry in entries:
            yield json.dumps(entry.model_dump(mode="json", exclude=self._left_out))


class TextLines:
    """Entries in aligned columns below one header."""

    def __init__(self, *, show_code: bool) -> None:
        self._show_code = show_code
        self._columns = Columns(_HEADER)
        self._begun = False

    def __call__(self, entries: Sequence["ExecutionEntry"]) -> Iterator[str]:
        """The lines of ``entries``."""
        header = [] if self._begun or not entries else [[cell.upper() for cell in _HEADER]]
        self._begun = self._begun or bool(entries)
        lines = self._columns.lines([*header, *map(_cells, entries)])
        yield from lines[: len(header)]
        for line, entry in zip(lines[len(header) :], entries, strict=True):
            yield line
            if self._show_code:
                yield from _kept_texts(entry)


def _cells(entry: "ExecutionEntry") -> list[str]:
    numbers = (entry.code_bytes, entry.stdout_bytes, entry.stderr_bytes)
    client = printable(entry.user_agent or "-").replace("\n", " ").replace("\t", " ")
    return [
        f"{entry.submitted_at:%Y-%m-%d %H:%M:%S}",
        printable(entry.caller),
        entry.language,
        entry.status if entry.ended else "unfinished",
        "-" if entry.execution_time is None else f"{entry.execution_time:.3f}",
        *("-" if number is None else str(number) for number in numbers),
        client if len(client) <= _MOST_CLIENT else f"{client[: _MOST_CLIENT - 3]}...",
        entry.request_id,
    ]


def _kept_texts(entry: "ExecutionEntry") -> Iterator[str]:
    """The program and what it printed, each line behind its name; nothing where the server keeps them not."""
    if entry.code is None:
        yield "  (not kept: only the server's setting CODEX_HISTORY_CODE=true keeps programs, from then on)"
    for name in _KEPT_ON_REQUEST:
        for line in printable(getattr(entry, name) or "").splitlines():
            yield f"  {name} | {line}"


async def _show(folder: Path, limit: int, caller: str | None, render: Render, *, follow: bool) -> None:
    from codex_server.service.journal import Journal
    from codex_server.store.sqlite import SqliteStore

    store = SqliteStore(folder)
    try:
        journal = Journal(store, caller)
        entries = await journal.newest(limit)
        if limit and not entries:
            _explain(f"no executions{f' of {caller}' if caller else ''} in {folder}", follow=follow)
        while True:
            for line in render(entries):
                print(line, flush=True)
            if not follow:
                return
            await asyncio.sleep(_POLL_SECONDS)
            entries = await journal.news()
    finally:
        await store.close()


def _there(folder: Path, *, follow: bool) -> bool:
    """Whether a server has kept anything in that folder; with ``follow`` return once it has."""
    from codex_server.store.folder import stat_state
    from codex_server.store.sqlite import FILE_NAME

    if stat_state(folder / FILE_NAME):
        return True
    _explain(f"no history in {folder} yet: a server makes it; --state-dir names its folder", follow=follow)
    while follow and not stat_state(folder / FILE_NAME):
        time.sleep(_POLL_SECONDS)
    return follow


def _explain(text: str, *, follow: bool) -> None:
    typer.echo(f"codex-server: {text}{', waiting for one (Ctrl-C ends this)' if follow else ''}", err=True)
