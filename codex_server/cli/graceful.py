"""uvicorn with a graceful stop: the first signal drains while it still responds, the second stops at once."""

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI

from codex_server.api.connections import Connections
from codex_server.api.protocol import GuardedProtocol, guarded
from codex_server.networks import Network, with_mapped

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LINGER_SECONDS = 2
"""The time for connections that are still open after the drain."""
_CHECK_SECONDS = 0.01
"""The interval of the check for connections without a request."""
_log = logging.getLogger(__name__)


class GracefulServer(uvicorn.Server):
    """Serves ``app``, whose lifespan the caller runs around it, on a socket that the caller bound.

    ``begin_drain`` makes the app reject new executions; its task ends when none is running. ``X-Forwarded-For`` is
    trusted from the addresses in ``trusted_proxies`` only.
    """

    def __init__(
        self,
        app: FastAPI,
        begin_drain: Callable[[], asyncio.Task[None]],
        *,
        receive_seconds: float,
        keep_alive_seconds: float = 75.0,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        trusted_proxies = with_mapped(trusted_proxies)
        connections = Connections.within(resource.getrlimit(resource.RLIMIT_NOFILE)[0], trusted_proxies)
        super().__init__(
            uvicorn.Config(
                app,
                http=guarded(receive_seconds, connections),  # type: ignore[arg-type]  # uvicorn calls it, as it would a class
                ws="none",
                lifespan="off",  # the caller runs it, so that it gets an error at the start unchanged
                log_config=None,
                access_log=False,
                server_header=False,
                # INVARIANT: a caller's identity does not depend on a header that anybody can send.
                proxy_headers=bool(trusted_proxies),
                forwarded_allow_ips=[str(network) for network in trusted_proxies],
                timeout_keep_alive=keep_alive_seconds,  # type: ignore[arg-type]  # it goes to `call_later`
                timeout_graceful_shutdown=_LINGER_SECONDS,
            )
        )
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # without its start message: ours has more
        self._begin_drain = begin_drain
        self._starting: asyncio.Task[Any] | None = None
        self._draining: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def signals_handled(self) -> Generator[None]:
        """In this block signals stop the server gracefully: while it starts, serves and closes.

        A signal during the start, or a second one, cancels the block, which then ends without an error.
        """
        loop = asyncio.get_running_loop()
        self._starting = asyncio.current_task()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        except asyncio.CancelledError:
            if not self.should_exit:
                raise
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    async def serve_until_signal(
        self, listener: socket.socket, state: Mapping[str, Any], on_ready: Callable[[], None]
    ) -> None:
        """Accept connections on ``listener``; return once all are closed. ``on_ready`` runs when it accepts."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        self.lifespan.state.update(state)
        await self.startup(sockets=[listener])
        self._starting = None
        on_ready()
        await self.main_loop()
        await self._wait_for_first_requests()
        await self.shutdown(sockets=[listener])

    async def _wait_for_first_requests(self) -> None:
        """Accept no more connections, but wait for the first request of each new one: it gets a response.

        A new connection often exists for a request that is on its way; uvicorn would close it without a response.
        """
        await asyncio.sleep(_CHECK_SECONDS)  # let the loop accept pending connections; closing would reset them
        for server in self.servers:
            server.close()
        deadline = time.monotonic() + _LINGER_SECONDS
        while self._has_unused_connection() and not self.force_exit and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_CHECK_SECONDS)

    def _has_unused_connection(self) -> bool:
        known = self.server_state.connections
        return any(isinstance(connection, GuardedProtocol) and not connection.received for connection in known)

    def _on_signal(self) -> None:
        if self._starting is not None:
            self.should_exit = True
            self._starting.cancel()
        elif self._draining is None:
            self._draining = self._begin_drain()
            self._draining.add_done_callback(self._stop)
        else:
            _log.warning("stopping at once after a second signal")
            self.force_exit = True
            self._draining.cancel()
            for request in self.server_state.tasks:
                request.cancel()

    def _stop(self, _drained: object) -> None:
        self.should_exit = True
