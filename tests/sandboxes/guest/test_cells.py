"""A cell that cannot be given its input is refused, and nothing else ends."""

import os
import socket
from types import SimpleNamespace

import pytest

from codex_server.sandboxes.guest.cells import Cells
from codex_server.sandboxes.guest.interpreter import Interpreter, Interpreters
from codex_server.sandboxes.guest.workspace import open_folder
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import decode, render
from codex_server.sandboxes.protocol.session import CellHeader, CellOrder, CellReport
from tests.sandboxes.executions import SLOT_ORDER


@pytest.mark.parametrize("open_stdin", [False, True], ids=["file", "pipe"])
def test_a_cell_whose_input_cannot_be_laid_is_refused(tmp_path, open_stdin):
    (tmp_path / "5").mkdir()
    boundary = SimpleNamespace(open_workspace=lambda: open_folder(str(tmp_path)), inputs=str(tmp_path))
    server, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    guest, ours = socket.socketpair()
    interpreters = Interpreters({"python": Interpreter("python", os.getpid(), ours, None)})
    bounds = SimpleNamespace(check_room=lambda *given: None)
    cells = Cells(SimpleNamespace(boundary=boundary, order=SLOT_ORDER), channel, None, interpreters, bounds)
    header = render(CellHeader("{}", 0, 3, ()))
    order = CellOrder(5, "python", 1, len(header), 0, 1.0, 2**26, 0, 0, collect=False, open_stdin=open_stdin)
    payload = os.memfd_create("payload")
    os.write(payload, header + b"abc")
    with server, channel, guest, ours:
        cells.begin(order, payload)
        kind, body, descriptors = frames.receive(server)
        report = decode(CellReport, body)
        assert (kind, report.id, report.given) == (frames.Kind.CELL_END, 5, "stdin")
        assert report.refusal == "the standard input cannot be given to the program: File exists"
        assert interpreters.with_cells == []
    for descriptor in (payload, *descriptors, cells._top, cells._inputs):
        os.close(descriptor)
