"""The server's end of a shell's terminal in a slot."""

import fcntl
import os
import struct
import termios

from codex_server.sandboxes.embedded.pipes import InputPipe, OutputPipe
from codex_server.sandboxes.live_shell import TerminalLine
from codex_server.sandboxes.session import Content
from codex_server.sandboxes.stdin import StandardInput


class SlotTerminal(TerminalLine):
    """``descriptor`` stays its session's; ``output`` takes what appears."""

    def __init__(self, descriptor: int, output: Content) -> None:
        self._window = os.dup(descriptor)
        self._keys = StandardInput(keep_open=True)
        self._input = InputPipe(os.dup(descriptor), self._keys)
        self._output = OutputPipe(os.dup(descriptor), output)

    def write(self, data: bytes) -> None:
        """See ``TerminalLine.write``."""
        self._keys.write(data)

    def resize(self, rows: int, columns: int) -> None:
        """See ``TerminalLine.resize``."""
        if self._window >= 0:
            fcntl.ioctl(self._window, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def drain(self) -> None:
        """See ``TerminalLine.drain``."""
        self._output.drain()

    def close(self) -> None:
        """See ``TerminalLine.close``."""
        self._input.close()
        self._output.close()
        if self._window >= 0:
            os.close(self._window)
            self._window = -1
