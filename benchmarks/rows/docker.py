"""Beside ``docker run --rm`` of the Python runner's own image, where there is an engine that has it."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

from benchmarks.bare import Bare
from benchmarks.bench import PRINTS_ONE, Bench
from benchmarks.closed_loop import run_clients
from benchmarks.rows.latency import PYTHON_CODE
from benchmarks.samples import Samples, interleave, median
from benchmarks.server import Gate, Server, pool_sizes, running_server
from benchmarks.table import Row, Skipped, Target, milliseconds, per_second
from benchmarks.wire import Connection
from codex_server.languages import load_languages
from codex_server.sandboxes.docker.backend import DockerBackend
from codex_server.sandboxes.docker.images import image_name
from codex_server.settings import Settings

IMAGE = image_name(Settings.model_fields["docker_image"].default, "python")
CLIENTS = 8
_EMBEDDED = "Python print(1) over HTTP, embedded : docker run --rm"
_LATENCY = "Python print(1) over HTTP, docker backend : docker run --rm"
_RATE = f"Python print(1) a second, docker backend, {CLIENTS} clients : docker run --rm, 2 at a time"
_READY = "A container made ready, docker backend : docker run --rm"
_ROUNDS = 20
_MADE = 10
_Measure = Callable[[Bench, Bare], Iterator[Row | Skipped]]


def _with_engine(name: str, case: str) -> Callable[[_Measure], Callable[[Bench], Iterator[Row | Skipped]]]:
    """Give the row a container start to compare with, or skip it by name."""

    def decorate(measure: _Measure) -> Callable[[Bench], Iterator[Row | Skipped]]:
        @wraps(measure)
        def row(bench: Bench) -> Iterator[Row | Skipped]:
            docker = shutil.which("docker")
            obstacle = _obstacle(docker)
            if docker is None or obstacle:
                yield Skipped(name, case, obstacle)
                return
            options = ("--rm", "--network", "none", "--entrypoint", "python3")
            env = {"DOCKER_HOST": os.environ["DOCKER_HOST"]} if "DOCKER_HOST" in os.environ else {}
            yield from measure(bench, Bare((docker, "run", *options, IMAGE, "-c", PYTHON_CODE), b"1\n", env))

        return row

    return decorate


@_with_engine("docker-run", _EMBEDDED)
def embedded(bench: Bench, run: Bare) -> Iterator[Row | Skipped]:
    """The embedded backend beside a container for each run."""
    sources = {"ours": bench.execution("python", PYTHON_CODE), "other": run.start}
    samples = interleave(sources, rounds=_ROUNDS, seconds=bench.effort.seconds, settle=bench.full)
    yield _compared("docker-run", _EMBEDDED, samples, Target(0.03))


@_with_engine("docker-backend", _LATENCY)
def latency(bench: Bench, run: Bare) -> Iterator[Row | Skipped]:
    """The docker backend with a warm pool."""
    with _server() as (server, connection, full):
        request = server.address.execute("python", PYTHON_CODE)
        sources = {"ours": lambda: connection.timed(request, PRINTS_ONE), "other": run.start}
        samples = interleave(sources, rounds=_ROUNDS, seconds=2 * bench.effort.seconds, settle=full)
    yield _compared("docker-backend", _LATENCY, samples, Target(0.08))


def _compared(name: str, case: str, samples: Mapping[str, Samples], target: Target) -> Row:
    ours, other = samples["ours"], samples["other"]
    return Row(
        name,
        case,
        ours.p50 / other.p50,
        milliseconds(ours.p50),
        milliseconds(other.p50),
        target=target,
        figures={"ours": ours.as_milliseconds(), "other": other.as_milliseconds()},
    )


@_with_engine("docker-rate", _RATE)
def rate(bench: Bench, run: Bare) -> Iterator[Row | Skipped]:
    """What the engine keeps up: every execution is a container made and removed."""
    ours, other = [], []
    seconds = 2 * bench.effort.window
    with _server() as (server, _, full):
        for _ in range(bench.effort.windows):
            full()
            request = server.address.execute("python", PYTHON_CODE)
            ours.append(run_clients(server.address, request, PRINTS_ONE, clients=CLIENTS, seconds=seconds).rate)
            full()
            other.append(bench.lanes.run(run, seconds).rate)
    yield Row(
        "docker-rate",
        _RATE,
        median(ours) / median(other),
        per_second(median(ours)),
        per_second(median(other)),
        figures={"ours_per_second": ours, "other_per_second": other},
    )


@_with_engine("docker-ready", _READY)
def ready(bench: Bench, run: Bare) -> Iterator[Row | Skipped]:
    """How long a container takes from the wish for it until it waits for code."""
    ours = median(asyncio.run(_make_some()))
    other = median(run.start() for _ in range(_MADE))
    yield Row("docker-ready", _READY, ours / other, milliseconds(ours), milliseconds(other))


async def _make_some() -> list[float]:
    languages, took = load_languages(), []
    with tempfile.TemporaryDirectory(prefix="codex-bench-") as folder:
        async with DockerBackend(Settings(state_dir=Path(folder)), languages) as backend:
            python = (await backend.survey(languages)).find("python")
            for _ in range(_MADE):
                began = time.perf_counter()
                sandbox = await backend.arm(python)
                took.append(time.perf_counter() - began)
                await sandbox.destroy()
    return took


@contextmanager
def _server() -> Iterator[tuple[Server, Connection, Gate]]:
    with running_server("docker") as server, Connection(server.address) as connection:
        full = Gate(connection, pool_sizes())
        full()
        yield server, connection, full


def _obstacle(docker: str | None) -> str:
    """What is missing for ``docker run``; empty when nothing is."""
    if docker is None:
        return "there is no docker command"
    if not _succeeds(docker, "version"):
        return "the Docker engine does not respond"
    if not _succeeds(docker, "image", "inspect", IMAGE):
        return f"the image {IMAGE} is not here; make it with `codex-server runners build python`"
    return ""


def _succeeds(*command: str) -> bool:
    try:
        response = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return response.returncode == 0
