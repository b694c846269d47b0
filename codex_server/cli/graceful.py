"""uvicorn with our own way to stop: drain on the first signal while it still answers, stop at once on the second."""

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
"""For connections that are still open when the drain is over."""
_LOOK_SECONDS = 0.01
"""Between two looks at whether somebody still connected without a request."""
_log = logging.getLogger(__name__)


class GracefulServer(uvicorn.Server):
    """Serves ``app``, whose lifespan the caller runs around it, on a socket that the caller bound.

    ``begin_drain`` makes the app refuse new executions; its task ends when none runs any more. What the addresses of
    ``trusted_proxies`` say of whom they speak for (``X-Forwarded-For``) is believed; of nobody else.
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
                lifespan="off",  # the caller runs it: an error at start then reaches the caller as it is
                log_config=None,
                access_log=False,
                server_header=False,
                # INVARIANT: who a caller is does not depend on a header that anybody may send.
                proxy_headers=bool(trusted_proxies),
                forwarded_allow_ips=[str(network) for network in trusted_proxies],
                timeout_keep_alive=keep_alive_seconds,  # type: ignore[arg-type]  # it goes to `call_later`
                timeout_graceful_shutdown=_LINGER_SECONDS,
            )
        )
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its banner: ours says more
        self._begin_drain = begin_drain
        self._starting: asyncio.Task[Any] | None = None
        self._draining: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def signals_handled(self) -> Generator[None]:
        """Signals end the server by its rules in this block: before its start, while it serves, while it closes.

        A signal while it starts, or a second one, cancels what the block does; the block then ends without an error.
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
        """Accept connections on ``listener`` and return once every one is closed; ``on_ready`` runs when it accepts."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        self.lifespan.state.update(state)
        await self.startup(sockets=[listener])
        self._starting = None
        on_ready()
        await self.main_loop()
        await self._hear_the_last()
        await self.shutdown(sockets=[listener])

    async def _hear_the_last(self) -> None:
        """Accept no more, but wait for the first request of whoever connected just before: it is refused, not cut off.

        A new connection is often made for a request that is on its way; uvicorn would close it unheard.
        """
        await asyncio.sleep(_LOOK_SECONDS)  # the loop takes in whoever waits already; closing would cut them off
        for server in self.servers:
            server.close()
        deadline = time.monotonic() + _LINGER_SECONDS
        while self._is_one_unheard() and not self.force_exit and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)

    def _is_one_unheard(self) -> bool:
        known = self.server_state.connections
        return any(isinstance(connection, GuardedProtocol) and not connection.heard for connection in known)

    def _on_signal(self) -> None:
        if self._starting is not None:
            self.should_exit = True
            self._starting.cancel()
        elif self._draining is None:
            self._draining = self._begin_drain()
            self._draining.add_done_callback(self._stop)
        else:
            _log.warning("stopping at once: a second signal came")
            self.force_exit = True
            self._draining.cancel()
            for request in self.server_state.tasks:
                request.cancel()

    def _stop(self, _drained: object) -> None:
        self.should_exit = True
