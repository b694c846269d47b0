"""System calls of a guest that its init receives before the kernel carries them out (seccomp user notification).

A worker's second system call filter holds them:

- an ``exit_group`` whose code carries ``MARK`` above its low byte: the program's end, received before the kernel
  takes its memory apart, which is 2 to 4 ms for which nobody need wait. The low byte alone is the code, so the mark
  changes nothing else. Our agents set it; anybody else who does is reported as truly.
- a socket of the Internet or of the routing table, with namespaces: a network in which none was ever made is as it
  was when it was new, and what waits in sockets of the latter is charged to nobody, so init bounds their number.
- a lock on a part of a file, where the files are the host's own: init keeps those locks itself (``locks.py``).
- a change of a file's mode or times, where the files are the host's own and all have one uid: init makes it itself
  (``attributes.py``).

INVARIANT: the thread that calls, and the arguments, are read by the kernel from that thread's own registers; and once
init has received an end, that thread runs no instruction of the program any more: nothing but a deadly signal ends its
waiting.
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
_NUMBER_AT, _ARGUMENTS_AT = 0, 16  # offsets in struct seccomp_data; the low half of the first argument
_ALLOW, _NOTIFY, _ERRNO = 0x7FFF_0000, 0x7FC0_0000, 0x0005_0000
_CALL = struct.Struct("=QII iIQ 6Q")  # struct seccomp_notif: id, pid, flags; number, machine, place, arguments
_REPLY = struct.Struct("=QqiI")  # struct seccomp_notif_resp: id, value, error, flags
_RECEIVE, _SEND = 0xC050_2100, 0xC018_2101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND, of linux/seccomp.h
_IS_VALID = 0x4008_2102  # SECCOMP_IOCTL_NOTIF_ID_VALID
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE


class Held(NamedTuple):
    """Calls that are held: those of which ``argument & mask`` is one of ``values``."""

    call: str
    argument: int
    mask: int
    values: tuple[int, ...]


END = Held("exit_group", 0, 0xFFFF_FF00, (MARK,))
NETWORK = Held("socket", 0, 0xFFFF_FFFF, (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK))
ROUTES = NETWORK._replace(values=(socket.AF_NETLINK,))
LOCKS = Held("fcntl", 1, 0xFFFF_FFFF, (fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW))
ATTRIBUTES = tuple(
    Held(call, 0, 0, (0,))  # whatever the arguments are
    for call in ("utimensat", "fchmod", "fchmodat", "fchmodat2", *(("chmod",) if kernel.exists("chmod") else ()))
)


class Notice(NamedTuple):
    """A call that is held. ``caller`` is the thread, as this namespace counts."""

    id: int
    caller: int
    number: int
    arguments: tuple[int, ...]

    def is_of(self, held: Held) -> bool:
        """Whether it is such a call."""
        return self.number == kernel.number_of(held.call) and self.arguments[held.argument] & held.mask in held.values

    @property
    def code(self) -> int:
        """Of an end: what the process's exit code will be, 0 to 255."""
        return self.arguments[0] & 0xFF


def announce(channel: socket.socket, program: bytes, otherwise: bytes = b"") -> None:
    """In the worker: send init the listener; ``program`` is ``listening_filter``'s.

    A kernel before 5.19 refuses, and any kernel where something around the server listens so already: then the filter
    ``otherwise`` is loaded, if there is one. INVARIANT: the guest never holds the listener: it is handed over and
    closed before the program is read.
    """
    try:
        listener = kernel.load_seccomp(program, _FLAGS)
    except OSError:
        if otherwise:
            kernel.load_seccomp(otherwise)
        return  # every ending is learned by waiting for it, which is as true
    channel.sendmsg([WORD], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", listener))])
    os.close(listener)


def listening_filter(*held: Held) -> bytes:
    """The filter that holds these calls, for seccomp(2). The kernel knows without running it what else it allows."""
    return _filter(held, _NOTIFY)


def refusing_filter(*held: Held) -> bytes:
    """The filter that refuses them with EPERM."""
    return _filter(held, _ERRNO | errno.EPERM)


def _filter(held: tuple[Held, ...], action: int) -> bytes:
    rows = [(_LOAD, 0, 0, _NUMBER_AT)]
    for call, argument, mask, values in held:
        judged = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument), (_AND, 0, 0, mask)]
        judged += [(_IF_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
        judged += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, action)]
        rows += [(_IF_EQUAL, 0, len(judged), kernel.number_of(call)), *judged]
    rows.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def all_left(events: int) -> bool:
    """Whether poll(2) says of a listener that nobody is left under its filter: guests inherit it and cannot shed it.

    INVARIANT: a thread lets go of its filters when it has left its program for good, with all that it had requested
    of the kernel done (Linux 6.11; before that, when it is reaped); and where nobody runs, nobody is started.
    """
    return bool(events & select.POLLHUP)


def receive(listener: int) -> Notice | None:
    """The next call, for which ``listener`` was readable; None when it was withdrawn (a signal came first)."""
    frame = bytearray(_CALL.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, frame)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    call, caller, _, number, _, _, *arguments = _CALL.unpack(frame)
    return Notice(call, caller, number, tuple(arguments))


def is_waiting(listener: int, notice: Notice) -> bool:
    """Whether the caller still waits: what was found under its number until now was found of it, and of nobody else."""
    try:
        fcntl.ioctl(listener, _IS_VALID, struct.pack("=Q", notice.id))
    except FileNotFoundError:
        return False
    return True


def let_go(listener: int, notice: Notice) -> None:
    """Let the call be carried out, as if nobody had listened; nothing when the caller is dead by now."""
    with contextlib.suppress(FileNotFoundError):
        fcntl.ioctl(listener, _SEND, _REPLY.pack(notice.id, 0, 0, _CONTINUE))


def answer(listener: int, notice: Notice, error: int) -> None:
    """Have the call fail with the errno ``error``, or return 0, without carrying it out."""
    with contextlib.suppress(FileNotFoundError):
        fcntl.ioctl(listener, _SEND, _REPLY.pack(notice.id, 0, -error, 0))
