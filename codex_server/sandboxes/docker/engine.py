"""The Docker engine, spoken to through its SDK: the one module that does, and never on the event loop.

Every method raises ``EngineError`` with a sentence when the engine cannot be reached, is too slow or refuses.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import anyio.to_thread
import docker
import docker.errors
import requests
import urllib3.exceptions
from anyio import CapacityLimiter

T = TypeVar("T")

DEFAULT_HOST = "unix:///var/run/docker.sock"
_PATIENCE_SECONDS = 20
"""Longest wait for one answer of the engine."""
_BUILD_SECONDS = 1800
_CALLS_AT_ONCE = 8
_LIMITS = {"memory": "MemoryLimit", "processes": "PidsLimit", "swap": "SwapLimit"}
"""How the engine calls what it can limit."""
_PLAIN = ("unix://", "tcp://", "http://")
_FAILURES = (
    docker.errors.DockerException,
    requests.RequestException,
    urllib3.exceptions.HTTPError,  # the SDK reads a build's lines past requests
    OSError,
)


class EngineError(Exception):
    """The engine could not be reached, or refused."""


class EngineRefused(EngineError):
    """The engine has answered, and would not do this one thing."""


class NoSuchImage(EngineRefused):
    """The engine has no image of that name."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine says of itself: ``machine`` as ``uname -m`` calls it, its ``runtimes`` by name, and which of
    memory, swap and processes it ``cannot_limit``: it makes such a container all the same, without the limit.
    """

    machine: str
    runtimes: frozenset[str]
    cannot_limit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image says of itself; each of its ``volumes`` would be a writable folder on the engine's disk."""

    labels: dict[str, str]
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndState:
    """What the engine knows of a container's end. ``running`` is True while it has not ended."""

    running: bool
    oom_killed: bool


class Engine:
    """An engine at ``host`` (as in DOCKER_HOST; by default this machine's socket)."""

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self._limiter = CapacityLimiter(_CALLS_AT_ONCE)
        self._client: docker.APIClient | None = None
        self._making = threading.Lock()

    async def connect(self) -> EngineFacts:
        """Look whether it answers, and what it is."""
        info = await self._call(lambda client: client.info())
        machine = str(info.get("Architecture", ""))
        return EngineFacts(
            machine={"arm64": "aarch64", "amd64": "x86_64"}.get(machine, machine),
            runtimes=frozenset(info.get("Runtimes") or ()),
            cannot_limit=frozenset(name for name, key in _LIMITS.items() if not info.get(key)),
        )

    async def image(self, name: str) -> ImageFacts:
        """What the image ``name`` is. Raises ``NoSuchImage``."""
        found = await self._call(lambda client: client.inspect_image(name))  # type: ignore[no-untyped-call]
        config = found.get("Config") or {}
        return ImageFacts(dict(config.get("Labels") or {}), tuple(config.get("Volumes") or ()))

    async def create(self, config: dict[str, Any]) -> str:
        """Make a container (not started); its id. ``config`` is the body of the engine's own request."""
        made = await self._call(
            lambda client: client.create_container_from_config(config)  # type: ignore[no-untyped-call]
        )
        return str(made["Id"])

    async def attach(self, container: str) -> socket.socket:
        """A socket that carries the container's streams: attach before it is started, or its first words are lost."""
        return await self._call(lambda client: _attach(client, container))

    async def start(self, container: str) -> None:
        """Start it."""
        await self._call(lambda client: client.start(container))

    async def limit(self, container: str, *, memory_bytes: int) -> None:
        """Give a running container less memory."""
        await self._call(
            lambda client: client.update_container(container, mem_limit=memory_bytes, memswap_limit=memory_bytes)
        )

    async def kill(self, container: str) -> None:
        """Kill everything in it. One that has ended, or is gone, is no error."""
        await self._call(lambda client: client.kill(container), gone_is_fine=True)

    async def end_state(self, container: str) -> EndState:
        """Whether and how it ended; waits a while for the end of one whose stream has ended, which comes first."""
        await self._call(lambda client: client.wait(container, timeout=_PATIENCE_SECONDS))
        state = (await self._call(lambda client: client.inspect_container(container)))["State"]
        return EndState(bool(state["Running"]), bool(state.get("OOMKilled")))

    async def remove(self, container: str) -> None:
        """Kill and remove it; one that is gone is no error."""
        await self._call(lambda client: client.remove_container(container, force=True, v=True), gone_is_fine=True)

    async def containers(self, labels: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
        """The id and labels of every container that bears all ``labels``, running or not."""
        wanted = {"label": list(labels)}
        found = await self._call(lambda client: client.containers(all=True, filters=wanted))
        return [(str(row["Id"]), dict(row.get("Labels") or {})) for row in found]

    def build(
        self, context: IO[bytes], name: str, *, arguments: dict[str, str], labels: dict[str, str], network: str | None
    ) -> Iterator[str]:
        """Build an image from a tar archive with a Dockerfile, blocking; the lines that the engine prints meanwhile."""
        try:
            steps = self._open().build(
                fileobj=context,
                custom_context=True,
                tag=name,
                buildargs=arguments,
                labels=labels,
                network_mode=network,
                decode=True,
                rm=True,
                forcerm=True,
                timeout=_BUILD_SECONDS,
            )
            for step in steps:
                if "error" in step:
                    raise EngineError(str(step["error"]).strip())
                yield from str(step.get("stream") or step.get("status") or "").splitlines()
        except _FAILURES as error:
            raise EngineError(self._explain(error)) from error

    def close(self) -> None:
        """Close every connection that waits for use."""
        if self._client:
            self._client.close()
            self._client = None

    async def _call(self, question: Callable[[docker.APIClient], T], *, gone_is_fine: bool = False) -> T:
        try:
            return await anyio.to_thread.run_sync(self._ask, question, gone_is_fine, limiter=self._limiter)
        except RuntimeError as error:
            raise EngineError(
                f"the Docker engine cannot be asked: {error} on this host; end other processes"
            ) from error

    def _ask(self, question: Callable[[docker.APIClient], T], gone_is_fine: bool) -> T:
        try:
            return question(self._open())
        except docker.errors.ImageNotFound as error:
            raise NoSuchImage(str(error.explanation)) from error
        except docker.errors.APIError as error:
            if gone_is_fine and _is_gone(error):
                return None  # type: ignore[return-value]  # only calls without an answer say so
            raise EngineRefused(f"the Docker engine refuses: {error.explanation or error}") from error
        except _FAILURES as error:
            raise EngineError(self._explain(error)) from error

    def _open(self) -> docker.APIClient:
        """The client; made when it is first needed, because that asks the engine for its version."""
        self._check_host()
        _check_connect(self.host)
        with self._making:
            if self._client is None:
                self._client = docker.APIClient(
                    base_url=self.host, version="auto", timeout=_PATIENCE_SECONDS, max_pool_size=_CALLS_AT_ONCE
                )
            return self._client

    def _check_host(self) -> None:
        if not self.host.startswith(_PLAIN) or os.environ.get("DOCKER_TLS_VERIFY"):
            raise EngineError(
                f"{self.host} cannot be used: programs' output travels over a plain socket. Name a unix:// socket or, "
                "on a network that you trust, tcp://; `ssh -NL /tmp/engine.sock:/var/run/docker.sock HOST` brings a "
                "far engine's socket here"
            )

    def _explain(self, error: Exception) -> str:
        text = str(error)
        if "Permission denied" in text:
            return (
                f"this account may not use the Docker engine at {self.host}: add it to the group docker, or name "
                "another engine with DOCKER_HOST"
            )
        if isinstance(error, requests.Timeout) or "timed out" in text:
            return f"the Docker engine at {self.host} does not answer within {_PATIENCE_SECONDS} s"
        return f"the Docker engine at {self.host} cannot be reached: start it, or name another one with DOCKER_HOST"


def _check_connect(host: str) -> None:
    """Connect and hang up: the SDK leaves its socket open when nobody is there. Raises ``OSError``."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.settimeout(_PATIENCE_SECONDS)
            visitor.connect(host.removeprefix("unix://"))


def _attach(client: docker.APIClient, container: str) -> socket.socket:
    """The connection itself, taken out of the SDK's hands, so that the event loop can read it."""
    asked = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
    held = client.attach_socket(container, params=asked)
    connection = getattr(held, "_sock", held)
    mine = socket.socket(fileno=os.dup(connection.fileno()))
    mine.setblocking(False)
    held.close()
    connection.close()
    return mine


def _is_gone(error: docker.errors.APIError) -> bool:
    """Whether it says that there is no such container, that it does not run, or that it is being removed already."""
    return error.status_code in (404, 409)
