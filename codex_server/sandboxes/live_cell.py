"""A cell of a session that was sent, until its end is known."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

from codex_server.model import Stop
from codex_server.sandboxes.protocol.cell import CellEnd
from codex_server.sandboxes.session import OutputSink
from codex_server.sandboxes.stdin import StandardInput


@dataclass(slots=True)
class Cell:
    """A cell that was sent. ``output`` takes what is printed while it runs; ``interpreter`` is "" for files alone.

    ``requested``: why the server has it ended; ``end`` is None when the session was lost.
    """

    id: int
    interpreter: str
    output: OutputSink
    stdin: StandardInput
    end: "asyncio.Future[CellEnd | None]"
    began: float
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Of a shell: what is typed from now on belongs to this cell."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    restarted: bool = False
    """Its interpreter is not the one of the cell before."""
    interrupted: bool = False
    """Its caller asked for that."""
    requested: Stop | None = None
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
