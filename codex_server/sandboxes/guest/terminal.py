"""A program's terminal: a pair of pseudo-terminals. The program has one end of it as its streams, the server the other.

The pair lies in a file system (devpts) of the slot's own, or of the container's: a guest finds no other terminal.
"""

import fcntl
import os
import struct

from ..protocol.stdio import TerminalSize
from . import kernel

FOLDER = "/dev/pts"
_TIOCSCTTY, _TIOCSWINSZ = 0x540E, 0x5414  # of asm-generic/ioctls.h
_OPTIONS = "newinstance,ptmxmode=0666,mode=620,max=16"
"""INVARIANT: a guest takes 16 pairs at most: the host has 4096 for all, and their buffers are charged to nobody."""


def mount() -> None:
    """Mount the slot's own file system of terminals."""
    kernel.mount("devpts", FOLDER, "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, _OPTIONS)


def open_pair(size: TerminalSize, owner: int | None) -> tuple[int, int]:
    """The server's end, and the program's, which ``owner`` may open again (None: whoever calls this)."""
    server, program = os.openpty()
    fcntl.ioctl(program, _TIOCSWINSZ, struct.pack("4H", size.rows, size.columns, 0, 0))
    if owner is not None:
        os.fchown(program, owner, owner)
    return server, program


def control(descriptor: int) -> None:
    """Make it the controlling terminal of this process, which leads a new session: ``/dev/tty``, and Ctrl-C a key."""
    fcntl.ioctl(descriptor, _TIOCSCTTY, 0)
