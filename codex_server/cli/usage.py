"""``codex-server usage``: what each caller of the server with this state folder used, by day."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codex_server.cli.flags import JsonFlag, StateDirFlag, gather_flags, settings_from_flags
from codex_server.cli.table import printable, render_table

if TYPE_CHECKING:
    from codex_server.service.usage import CallerDay


def usage(
    days: Annotated[
        int, typer.Option("--days", metavar="N", min=1, max=3650, help="How many days, today included")
    ] = 7,
    state_dir: StateDirFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Show each caller's executions and CPU seconds by UTC day.

    An execution whose CPU time could not be measured counts with its wall time.
    """
    settings = settings_from_flags(gather_flags(None, state_dir=state_dir))
    found = asyncio.run(_read(settings.state_dir, days, settings.history_days))
    if as_json:
        entries = [asdict(each) | {"day": each.day.isoformat()} for each in found]
        typer.echo(json.dumps({"usage": entries}, indent=2))
        return
    if not found:
        typer.echo(f"nobody ran anything in the last {days} days, as {settings.state_dir} shows")
        return
    rows = [(f"{each.day}", printable(each.caller), f"{each.executions}", f"{each.cpu_seconds:.3f}") for each in found]
    typer.echo(render_table(("day (utc)", "who", "executions", "cpu seconds"), rows))


async def _read(folder: Path, days: int, kept_days: float) -> "list[CallerDay]":
    from codex_server.service.usage import Usage
    from codex_server.store.folder import stat_state
    from codex_server.store.sqlite import FILE_NAME, SqliteStore

    if not stat_state(folder / FILE_NAME):
        return []
    store = SqliteStore(folder)
    try:
        return await Usage(store, days=kept_days).by_day(days)
    finally:
        await store.close()
