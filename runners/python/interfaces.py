"""Network interfaces for a program that may make no socket at all (level ``confined``): the loopback alone.

What lists interfaces asks the kernel over a socket, and would see those of the host. Where there is a network of the
sandbox's own the kernel itself tells of its loopback.
"""

import errno
import os
import socket

_NAME, _INDEX = "lo", 1


def offer_loopback() -> None:
    """Have ``socket`` tell of a loopback, where this process is refused every socket."""
    try:
        socket.socket(socket.AF_UNIX).close()
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            socket.if_nameindex = _if_nameindex
            socket.if_nametoindex = _if_nametoindex
            socket.if_indextoname = _if_indextoname


def _if_nameindex() -> list[tuple[int, str]]:
    return [(_INDEX, _NAME)]


def _if_nametoindex(name: str, /) -> int:
    if name != _NAME:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    return _INDEX


def _if_indextoname(index: int, /) -> str:
    if index != _INDEX:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return _NAME
