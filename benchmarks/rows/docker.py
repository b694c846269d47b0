"""Beside ``docker run --rm``, where there is a daemon with the image."""

import shutil
import subprocess
from collections.abc import Iterator
from typing import get_args

from benchmarks.bare import Bare
from benchmarks.bench import Bench
from benchmarks.rows.latency import PYTHON_CODE
from benchmarks.samples import interleave
from benchmarks.table import Row, Skipped, Target, milliseconds
from codex_server.settings import Settings

IMAGE = "python:3-slim"
_EMBEDDED = "Python print(1) over HTTP, embedded : docker run --rm"
_DOCKER = "Python print(1) over HTTP, docker backend : docker run --rm"


def embedded(bench: Bench) -> Iterator[Row | Skipped]:
    """The embedded backend beside a container for each run."""
    docker = shutil.which("docker")
    obstacle = _obstacle(docker)
    if docker is None or obstacle:
        yield Skipped("docker-run", _EMBEDDED, obstacle)
        return
    bare = Bare((docker, "run", "--rm", "--network", "none", IMAGE, "python3", "-c", PYTHON_CODE), b"1\n")
    sources = {"execution": bench.execution("python", PYTHON_CODE), "bare": bare.start}
    samples = interleave(sources, rounds=20, seconds=bench.effort.seconds, settle=bench.full)
    ours, other = samples["execution"], samples["bare"]
    yield Row(
        "docker-run",
        _EMBEDDED,
        ours.p50 / other.p50,
        milliseconds(ours.p50),
        milliseconds(other.p50),
        target=Target(0.03),
        figures={"ours": ours.as_milliseconds(), "other": other.as_milliseconds()},
    )


def backend(_bench: Bench) -> Iterator[Row | Skipped]:
    """The docker backend, once the server has one."""
    known = get_args(Settings.model_fields["backend"].annotation)
    if "docker" in known:
        yield Skipped("docker-backend", _DOCKER, "the benchmark does not start a server with that backend yet")
    else:
        yield Skipped("docker-backend", _DOCKER, f"this version's backends are {', '.join(known)}")


def _obstacle(docker: str | None) -> str:
    """What is missing for ``docker run``; empty when nothing is."""
    if docker is None:
        return "there is no docker command"
    if not _succeeds(docker, "version"):
        return "the Docker daemon does not answer"
    if not _succeeds(docker, "image", "inspect", IMAGE):
        return f"the image is not here; get it with `docker pull {IMAGE}`"
    return ""


def _succeeds(*command: str) -> bool:
    try:
        answer = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0
