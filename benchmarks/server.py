"""A server of the benchmark's own: a free loopback port, its own state folder, its own token, no rate limit."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import packages
from benchmarks.processes import Family, family_of
from benchmarks.wire import Address, Connection
from codex_server.settings import Settings

_ROOT = Path(__file__).parent.parent
_URL = re.compile(rb"http://(127\.0\.0\.1):(\d+)")
_READY_SECONDS = 60.0
_STOP_SECONDS = 40.0
_PAUSE_SECONDS = 0.002


class ServerFailed(Exception):
    """The server did not start, or did not become ready; the message has its output."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    address: Address
    began: float
    """When its process was started (``time.perf_counter``)."""

    def family(self) -> Family:
        """Return its current processes."""
        return family_of(self.process.pid)

    def facts(self) -> dict[str, object]:
        """The body of ``/health``."""
        with Connection(self.address) as connection:
            response: dict[str, object] = json.loads(connection.exchange(self.address.get("/health")).body)
            return response


class Gate:
    """Waits until every pool is full, by requests to ``/readyz``: latency is then that of a warm pool."""

    def __init__(self, connection: Connection, sizes: Mapping[str, int]) -> None:
        self._connection = connection
        self._sizes = sizes
        self._request = connection.address.get("/readyz")

    def __call__(self) -> None:
        """Return when they are full. Raises ``ServerFailed`` after a minute."""
        deadline = time.monotonic() + _READY_SECONDS
        while missing := self._missing():
            if time.monotonic() > deadline:
                raise ServerFailed(f"after {_READY_SECONDS:g} s these pools are not full: {missing}")
            time.sleep(_PAUSE_SECONDS)

    def _missing(self) -> dict[str, int]:
        armed = json.loads(self._connection.exchange(self._request).body)["armed"]
        return {pool: count for pool, count in armed.items() if count < self._sizes.get(pool, 1)}


def pool_sizes() -> dict[str, int]:
    """The product's own: the benchmark changes nothing that makes a server faster."""
    factory = Settings.model_fields["pool_sizes"].default_factory
    sizes: dict[str, int] = factory()  # type: ignore[misc, call-arg]
    return sizes


@contextmanager
def running_server(backend: str = "embedded", **settings: str) -> Iterator[Server]:
    """A running server, with ``settings`` as variables; it is stopped at the end.

    Raises ``ServerFailed`` with its output.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="codex-bench-"))
        errors = stack.enter_context(tempfile.TemporaryFile())
        token = "codex_" + secrets.token_urlsafe(32)
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "codex_server", "serve", "--port", "0", "--backend", backend],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=server_environment(Path(folder), token, os.environ) | settings,
            cwd=folder,
        )
        stack.callback(_stop, process)
        host, port = _hear_address(process)
        if not host:
            errors.seek(0)
            raise ServerFailed(f"the server did not start:\n{errors.read().decode(errors='replace').strip()}")
        yield Server(process, Address(host, port, token), began)


def server_environment(folder: Path, token: str, caller: Mapping[str, str]) -> dict[str, str]:
    """The server's variables: the caller's ``CODEX_*`` are removed, because they would change the measurement."""
    kept = {name: value for name, value in caller.items() if not name.startswith("CODEX_")}
    return (
        kept
        | packages.switched()
        | {
            "PYTHONPATH": str(_ROOT),
            "CODEX_STATE_DIR": str(folder / "state"),
            "CODEX_API_TOKEN": token,
            "CODEX_RATE_LIMIT": "",
            "CODEX_LOG_LEVEL": "warning",
        }
    )


def _hear_address(process: subprocess.Popen[bytes]) -> tuple[str, int]:
    """From the start message; an empty host when the server ended without one."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := _URL.search(line):
            return found[1].decode(), int(found[2])
    return "", 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
