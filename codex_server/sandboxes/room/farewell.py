"""A program's farewell: the ``exit_group`` by which it ends, heard before the kernel takes its memory apart.

That taking apart is 2 to 4 ms for which nobody need wait. A worker's second system call filter holds an ``exit_group``
whose code carries ``MARK`` above its low byte, and tells init of it (seccomp user notification). The low byte alone is
the code, so the mark changes nothing else. Our agents set it; anybody else who does is told of as truly.
INVARIANT: the thread that calls, and the code, are read by the kernel from that thread's own registers; and once init
has heard it, that thread runs no instruction of the program any more: nothing but a deadly signal ends its waiting.
"""

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
from typing import NamedTuple

from . import kernel

MARK = 0x6279_6500
"""What the agents put above the code: "bye"."""
WORD = b"F"
"""What is sent with the listener, before the worker is ready."""
_FLAGS = kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER | kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
_LOAD, _AND, _IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER_AT, _CODE_AT = 0, 16  # offsets in struct seccomp_data; the low half of the first argument
_ALLOW, _NOTIFY = 0x7FFF_0000, 0x7FC0_0000
_CALL = struct.Struct("=QII iIQ 6Q")  # struct seccomp_notif: id, pid, flags; number, machine, place, arguments
_REPLY = struct.Struct("=QqiI")  # struct seccomp_notif_resp: id, value, error, flags
_RECEIVE, _SEND = 0xC050_2100, 0xC018_2101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND, of linux/seccomp.h
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE


class Farewell(NamedTuple):
    """``code`` is what the process's exit code will be, 0 to 255; ``caller`` the thread, as this namespace counts."""

    call: int
    caller: int
    code: int


def announce(channel: socket.socket, program: bytes) -> None:
    """In the worker: have init told; ``program`` is ``listening_filter``'s.

    A kernel before 5.19 refuses, and any kernel where something around the server listens so already.
    INVARIANT: the guest never holds the listener: it is handed over and closed before the program is read.
    """
    try:
        listener = kernel.load_seccomp(program, _FLAGS)
    except OSError:
        return  # then every ending is learned by waiting for it, which is as true
    channel.sendmsg([WORD], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", listener))])
    os.close(listener)


def listening_filter() -> bytes:
    """The filter that holds farewells, for seccomp(2); the kernel knows without running it that it allows the rest."""
    rows = (
        (_LOAD, 0, 0, _NUMBER_AT),
        (_IF_EQUAL, 0, 4, kernel.number_of("exit_group")),
        (_LOAD, 0, 0, _CODE_AT),
        (_AND, 0, 0, 0xFFFF_FF00),
        (_IF_EQUAL, 0, 1, MARK),
        (_RETURN, 0, 0, _NOTIFY),
        (_RETURN, 0, 0, _ALLOW),
    )
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def all_left(events: int) -> bool:
    """Whether poll(2) says of a listener that nobody is left under its filter: guests inherit it and cannot shed it.

    INVARIANT: a thread lets go of its filters when it has left its program for good, with all that it had asked of the
    kernel done (Linux 6.11; before that, when it is reaped); and where nobody runs, nobody is started.
    """
    return bool(events & select.POLLHUP)


def hear(listener: int) -> Farewell | None:
    """The next farewell, for which ``listener`` was readable; None when it was withdrawn (a signal came first)."""
    frame = bytearray(_CALL.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, frame)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    call, caller, _, _, _, _, code, *_ = _CALL.unpack(frame)
    return Farewell(call, caller, code & 0xFF)


def let_go(listener: int, farewell: Farewell) -> None:
    """Let the call be carried out, as if nobody had listened; nothing when the caller is dead by now."""
    with contextlib.suppress(FileNotFoundError):
        fcntl.ioctl(listener, _SEND, _REPLY.pack(farewell.call, 0, 0, _CONTINUE))
