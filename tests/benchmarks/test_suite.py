from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import plot
from benchmarks.__main__ import LATEST, read_arguments
from benchmarks.machine import load_average, parse_processor, read_machine
from benchmarks.rows import docker, latency, rate
from benchmarks.server import pool_sizes, server_environment
from benchmarks.suite import NAMES, ROWS
from benchmarks.table import Skipped


def _bench(**parts: Any) -> Any:
    return SimpleNamespace(lanes=SimpleNamespace(number=2), **parts)


def _reason(rows: Any) -> str:
    (skipped,) = rows
    assert isinstance(skipped, Skipped)
    return skipped.reason


@pytest.mark.parametrize("measure", [latency.javascript, rate.javascript])
def test_without_node_the_rows_of_javascript_are_skipped_by_name(measure):
    assert _reason(measure(_bench(node=None))) == "there is no Node.js on this machine"


def test_without_the_data_packages_the_row_of_pandas_is_skipped():
    bench = _bench(try_execution=lambda language, code: {"output": "", "exit_code": 1})

    assert "data packages are not installed" in _reason(latency.pandas(bench))


def test_guests_with_pandas_that_the_benchmark_cannot_find_make_no_row():
    bench = _bench(try_execution=lambda language, code: {"output": "1\n"}, equipped_python=None)

    assert "not where the benchmark looks" in _reason(latency.pandas(bench))


@pytest.mark.parametrize("row", [docker.embedded, docker.latency, docker.rate, docker.ready])
def test_without_docker_its_rows_are_skipped(monkeypatch, row):
    monkeypatch.setattr(docker.shutil, "which", lambda name: None)

    assert _reason(row(_bench())) == "there is no docker command"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "the Docker engine does not respond"),
        (
            '[ "$1" = version ]',
            f"the image {docker.IMAGE} is not here; make it with `codex-server runners build python`",
        ),
    ],
)
def test_a_docker_without_daemon_or_image_is_distinguished(monkeypatch, tmp_path, script, reason):
    command = tmp_path / "docker"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setattr(docker.shutil, "which", lambda name: str(command))

    assert _reason(docker.embedded(_bench())) == reason


def test_a_plot_without_matplotlib_is_skipped_by_name(monkeypatch, tmp_path):
    monkeypatch.setattr(plot.importlib.util, "find_spec", lambda name: None)

    assert plot.draw(SimpleNamespace(), tmp_path / "x.png").startswith("skipped: the plot: matplotlib")
    assert not list(tmp_path.iterdir())


def test_the_command_line_takes_rows_by_name_and_nothing_else(capsys):
    assert read_arguments(["--only", "python", "--only", "load"]).only == ["python", "load"]
    assert read_arguments([]).json == LATEST
    with pytest.raises(SystemExit):
        read_arguments(["--only", "pyhton"])
    message = capsys.readouterr().err
    assert all(name in message for name in NAMES)


def test_every_row_of_the_design_has_a_name():
    assert set(ROWS) == {
        "docker-backend", "docker-rate", "docker-ready", "docker-run", "idle-memory", "javascript", "javascript-rate",
        "latency-tail", "open-streams", "optimizations", "pandas", "poll", "python", "python-rate", "server-cpu",
        "session-cell", "session-file", "session-first", "session-open", "slot-memory", "start",
        "stream-cost", "stream-first", "tail",
    }  # fmt: skip


def test_the_server_under_test_takes_no_setting_of_the_caller(tmp_path):
    environment = server_environment(tmp_path, "codex_token", {"CODEX_POOL_SIZES": "python=99", "HOME": "/home/me"})

    assert "CODEX_POOL_SIZES" not in environment
    assert environment["CODEX_API_TOKEN"] == "codex_token"
    assert environment["CODEX_RATE_LIMIT"] == ""
    assert environment["HOME"] == "/home/me"


def test_pools_are_as_large_as_the_product_makes_them():
    assert pool_sizes()["python"] >= 1


def test_the_machine_is_named():
    machine = read_machine()

    assert machine.processors >= 1
    assert machine.memory_bytes > 2**27
    assert load_average() >= 0


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [("processor\t: 0\nmodel name\t: Fast One\nflags\t: x\n", "Fast One"), ("processor\t: 0\nBogoMIPS: 1\n", None)],
)
def test_a_processor_without_a_model_name_is_called_by_its_architecture(cpuinfo, name):
    import platform

    assert parse_processor(cpuinfo) == (name or platform.machine())
