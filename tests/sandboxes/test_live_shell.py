"""A shell as the server sees it, before an init that the test plays."""

import asyncio
from unittest.mock import Mock

import pytest

from codex_server.sandboxes.live_cell import Cell
from codex_server.sandboxes.live_shell import LiveShell, TerminalLine
from codex_server.sandboxes.protocol.cell import CellEnd
from codex_server.sandboxes.protocol.session import CellReport
from codex_server.sandboxes.stdin import StandardInput

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def end(reply: bytes | None) -> CellEnd:
    size = None if reply is None else len(reply)
    return CellEnd(CellReport(1, None, size, None, None, 0.0, 0.0, 0, 0, (), (), (), 0), memoryview(reply or b""))


async def test_a_prompt_that_crosses_the_kill_does_not_save_the_shell():
    cells: list[Cell] = []
    ends = iter([end(b"0 /workspace"), end(None)])

    def begin() -> Cell:
        future = asyncio.get_running_loop().create_future()
        cells.append(Cell(len(cells), "shell:main", Mock(), StandardInput(), future, 0.0))
        return cells[-1]

    kill = Mock(side_effect=lambda: cells[-1].end.set_result(next(ends)))
    line = Mock(spec=TerminalLine)
    shell = LiveShell(line, begin, kill)
    await shell.close()
    assert kill.call_count == len(cells) == 2
    await shell.close()
    assert kill.call_count == 2
    line.close.assert_called()
