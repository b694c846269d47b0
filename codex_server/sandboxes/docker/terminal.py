"""The server's end of a shell's terminal in a container: frames over the container's stream."""

import contextlib

from codex_server.sandboxes.docker.attachment import Attachment
from codex_server.sandboxes.live_shell import TerminalLine
from codex_server.sandboxes.protocol import frames, stream
from codex_server.sandboxes.protocol.codec import encode
from codex_server.sandboxes.protocol.session import Keys, KeysTaken, Window
from codex_server.sandboxes.protocol.stdio import TerminalSize
from codex_server.sandboxes.session import Content
from codex_server.sandboxes.stdin import StandardInput


class ContainerTerminal(TerminalLine):
    """That of the shell ``name``; what appears before somebody looks is kept until then."""

    def __init__(self, name: str, attachment: Attachment) -> None:
        self._name = name
        self._attachment = attachment
        self._keys = StandardInput(keep_open=True)
        self._keys.read_by(self._send_keys)
        self._taken = True
        self._output: Content | None = None
        self._unseen: list[bytes] = []
        self._closed = False

    def show(self, output: Content) -> None:
        """Pass on to ``output`` what appears."""
        self._output = output
        for chunk in self._unseen:
            output(chunk)
        self._unseen.clear()

    def appear(self, chunk: bytes) -> None:
        """``chunk`` has appeared."""
        if self._output is None:
            self._unseen.append(chunk)
        elif not self._closed:
            self._output(chunk)

    def note_taken(self, taken: KeysTaken) -> None:
        """The terminal has taken what was sent, and the next keys may follow, or it takes no more."""
        if taken.closed:
            self._keys.abandon()
        self._taken = True
        self._send_keys()

    def write(self, data: bytes) -> None:
        """See ``TerminalLine.write``."""
        self._keys.write(data)

    def _send_keys(self) -> None:
        keys = bytes(self._keys.peek(stream.CHUNK)) if self._taken else b""
        if keys:
            self._keys.take(len(keys))
            self._taken = False
            with contextlib.suppress(frames.Closed):  # whoever waits for the next prompt learns of it
                self._attachment.send(frames.Kind.KEYS, encode(Keys(self._name)), keys)

    def resize(self, rows: int, columns: int) -> None:
        """See ``TerminalLine.resize``."""
        with contextlib.suppress(frames.Closed):  # likewise
            self._attachment.send(frames.Kind.WINDOW, encode(Window(self._name, TerminalSize(rows, columns))))

    def drain(self) -> None:
        """Nothing: the relay sends all that has appeared before the shell's next prompt is reported."""

    def close(self) -> None:
        """See ``TerminalLine.close``."""
        self._closed = True
        self._keys.abandon()
