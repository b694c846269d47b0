"""``codex-server runners build``: on a real engine where there is one, else as far as one can tell without."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import docker
import docker.errors
import pytest
from typer.testing import CliRunner

from codex_server import __version__
from codex_server.cli.main import app
from codex_server.errors import ImageNotBuilt, UnknownLanguage
from codex_server.sandboxes.docker.engine import Engine, _check_connect
from codex_server.sandboxes.docker.images import LABELS
from codex_server.sandboxes.protocol import frames
from tests.engine import BASE, HOST
from tests.levels import out_of_reach

TEMPLATE = "codex-test-cli-{runner}:{version}"
BASH = f"codex-test-cli-bash:{__version__}"
BROKEN = "name: broken\ntitle: Broken\nfile: main.br\nprogram: bash\n"

OWN_AGENT = "name: own\ntitle: Own\nfile: main.o\nprogram: node\nstart: agent\ncommand: [x]\n"


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["runners", "build", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "codex_server", "runners", "build", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CODEX_DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    return f"unix://{tmp_path}/none.sock"


@dataclass
class Builds:
    """What an engine that builds at once was asked to build."""

    names: list[str] = field(default_factory=list)
    arguments: list[dict[str, str]] = field(default_factory=list)
    labels: list[dict[str, str]] = field(default_factory=list)
    networks: list[str | None] = field(default_factory=list)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    builds = Builds()

    def build(
        _: Engine,
        context: IO[bytes],
        name: str,
        *,
        arguments: dict[str, str],
        labels: dict[str, str],
        network: str | None,
    ) -> Iterator[str]:
        assert context.read(100)
        builds.names.append(name)
        builds.arguments.append(arguments)
        builds.labels.append(labels)
        builds.networks.append(network)
        yield from ("Step 1/1 : FROM base", "")

    monkeypatch.setattr(Engine, "build", build)
    return builds


def test_an_unknown_language_is_refused_before_anything_is_built(builds):
    with pytest.raises(UnknownLanguage, match="no runner 'cobol'; `codex-server languages` lists them"):
        call("bash", "cobol")
    assert builds.names == []


def test_without_a_name_every_runner_with_an_image_is_built(builds):
    output = call()
    assert set(builds.names) == {f"codex-runner-{name}:{__version__}" for name in ("python", "javascript", "bash")}
    assert output.count("Building codex-runner-") == output.count("Built codex-runner-") == 3
    assert "\n  Step 1/1 : FROM base\nBuilt" in output


def test_every_image_is_marked_with_the_version_of_what_the_server_will_say_to_it(builds):
    call()
    assert builds.labels == [{"codex-server.protocol": str(frames.VERSION)}] * 3


@pytest.mark.parametrize("names", [("ts",), ("typescript",), ("js", "TS", "javascript")])
def test_the_name_of_a_language_builds_the_image_that_serves_it_once(builds, names):
    call(*names)
    assert builds.names == [f"codex-runner-javascript:{__version__}"]


def test_the_flags_are_told_to_the_build(builds):
    call("bash", "--no-data", "--base", "mine:1", "--network", "host", "--set", f"docker_image={TEMPLATE}")
    call("bash")
    assert builds.names == [BASH, f"codex-runner-bash:{__version__}"]
    assert builds.arguments == [{"PACKAGES": "no", "BASE": "mine:1"}, {"PACKAGES": "yes"}]
    assert builds.networks == ["host", None]


def test_without_an_engine_it_fails_with_exit_code_1_and_what_to_do(no_engine):
    result = command("bash")
    assert result.returncode == 1
    assert result.stderr == (
        f"codex-server: the image codex-runner-bash:{__version__} was not built: the Docker engine at {no_engine} "
        "cannot be reached: start it, or name another one with DOCKER_HOST\n"
    )


def test_an_agent_of_ones_own_without_a_dockerfile_is_told_what_is_missing(builds, tmp_path, monkeypatch):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "runner.yaml").write_text(
        "name: own\ntitle: Own\nfile: main.o\nprogram: node\nstart: agent\ncommand: [x]\n"
    )
    monkeypatch.setenv("CODEX_RUNNERS_DIR", str(tmp_path))
    with pytest.raises(ImageNotBuilt, match=r"own.Dockerfile is missing"):
        call("own")


@pytest.fixture
def engine() -> Iterator[docker.APIClient]:
    """The engine itself; the tests' images are gone afterwards."""
    if BASE is None:
        out_of_reach("docker", "no image to build from; name one with CODEX_TEST_BASE")
    try:
        _check_connect(Engine(HOST).host)  # the SDK leaves its own socket open when nobody is there
        client = docker.APIClient(base_url=HOST, timeout=60)
    except (docker.errors.DockerException, OSError) as error:
        out_of_reach("docker", error)
    yield client
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.remove_image(BASH)
    client.close()


def test_a_real_build_shows_its_steps_and_makes_an_image_that_the_server_takes(engine):
    output = call("bash", "--base", str(BASE), "--no-data", "--set", f"docker_image={TEMPLATE}").splitlines()
    assert output[0].startswith(f"Building {BASH} from ")
    assert output[0].endswith("/bash/Dockerfile")
    assert any(line.startswith("  Step ") for line in output)
    assert output[-1].startswith(f"Built {BASH} in ")
    config = engine.inspect_image(BASH)["Config"]
    assert config["Labels"] == LABELS
    assert config["User"] == "10000:10000"


def test_a_real_build_that_fails_is_exit_code_1_with_what_the_engine_said_and_leaves_no_image(
    engine, tmp_path, monkeypatch
):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "runner.yaml").write_text(BROKEN)
    (folder / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nRUN echo so far && exit 3\n")
    monkeypatch.setenv("CODEX_RUNNERS_DIR", str(tmp_path))
    result = command("broken", "--base", str(BASE), "--set", f"docker_image={TEMPLATE}")
    assert result.returncode == 1
    assert "  so far\n" in result.stdout
    assert result.stderr.startswith(f"codex-server: the image codex-test-cli-broken:{__version__} was not built: ")
    assert "returned a non-zero code: 3" in result.stderr
    assert "Traceback" not in result.stderr
    with pytest.raises(docker.errors.ImageNotFound):
        engine.inspect_image(f"codex-test-cli-broken:{__version__}")
