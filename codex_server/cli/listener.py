"""The listening socket: bound first, so that a port in use is reported at once."""

import errno
import socket

from codex_server.errors import StartupError
from codex_server.networks import bare_host

_BACKLOG = 2048


def bind_listener(host: str, port: int) -> socket.socket:
    """A bound socket that does not accept yet; port 0 takes a free one.

    Raises ``StartupError`` that names the address, the cause and the remedy.
    """
    host = bare_host(host)
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise StartupError(_explain(host, port, error)) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupError(_explain(host, port, error)) from error
    return listener


def base_url(host: str, port: int) -> str:
    """``http://host:port`` as a person on this machine can use it: the wildcard addresses become loopback."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(bare_host(host), bare_host(host))  # noqa: S104
    zoned = shown.replace("%", "%25")  # fe80::1%eth0: a percent sign is written so in a URL
    return f"http://[{zoned}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _explain(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"the address {host!r} is not known here ({error.strerror}); give --host an address of this machine"
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use, perhaps by another codex-server; stop that one, "
            f"or take another: --port {port + 1} (CODEX_PORT={port + 1} with make)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this user has; use --port 8000, or another above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine; use 127.0.0.1, or 0.0.0.0 for all of them"
    return f"cannot listen on {host} port {port}: {error.strerror or error}"
