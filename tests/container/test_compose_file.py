"""compose.yaml and its Dockerfile as files: what they promise, whether there is an engine or not."""

import re
import shutil
import subprocess

import pytest
import yaml

from codex_server import __version__
from codex_server.sandboxes.seccomp.server_profile import GRANTS
from codex_server.settings import ENV_PREFIX, Settings
from tests.container.compose import FILE, ROOT, load_service, run_options
from tests.levels import out_of_reach

SERVICE = load_service()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PAGE = (ROOT / "docs" / "container.md").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()


def test_every_option_of_the_file_is_tested_with_the_container():
    assert run_options(SERVICE, "tests-own") == [
        "--init",
        "--env=CODEX_API_TOKEN",
        "--env=CODEX_PUBLIC_URL",
        "--env=CODEX_RATE_LIMIT",
        "--env=CODEX_MAX_CONCURRENCY",
        "--read-only",
        "--tmpfs=/tmp:rw,nosuid,nodev,noexec,size=64m,mode=1777",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges:true",
        "--security-opt=seccomp=seccomp.json",
        "--security-opt=systempaths=unconfined",
        "--security-opt=apparmor=unconfined",
        "--memory=4g",
        "--memory-swap=4g",
        "--pids-limit=2048",
        "--log-driver=json-file",
        "--log-opt=max-size=10m",
        "--log-opt=max-file=3",
        "--volume=tests-own:/var/lib/codex-server",
        "--publish=127.0.0.1::8000",
    ]


@pytest.mark.parametrize("key", ["privileged", "cap_add", "devices", "network_mode", "pid", "user", "userns_mode"])
def test_an_option_without_a_translation_is_not_passed_over(key: str):
    with pytest.raises(ValueError, match=f"{key}: .* has no translation"):
        run_options(SERVICE | {key: "any"}, "tests-own")


def test_a_switch_that_is_off_is_not_taken_for_one_that_is_on():
    with pytest.raises(ValueError, match="read_only: False has no translation"):
        run_options(SERVICE | {"read_only": False}, "tests-own")


def test_the_engines_socket_is_not_within_reach():
    assert "docker.sock" not in yaml.safe_dump(yaml.safe_load(FILE.read_text()))
    assert [volume.partition(":")[0] for volume in SERVICE["volumes"]] == ["state"]


def test_only_this_machine_reaches_the_port():
    assert SERVICE["ports"] == ["127.0.0.1:8000:8000"]


def test_the_variables_that_are_handed_on_are_settings():
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    assert set(SERVICE["environment"]) <= known
    assert set(re.findall(r"\bCODEX_\w+", FILE.read_text())) <= known
    assert set(re.findall(r"\bCODEX_\w+", DOCKERFILE)) <= known


def test_stopping_gives_running_executions_the_time_that_the_server_gives_them():
    seconds = int(SERVICE["stop_grace_period"].removesuffix("s"))
    assert seconds > Settings.model_fields["drain_seconds"].default


def test_compose_itself_takes_the_file():
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        out_of_reach("compose", "it is not installed here")
    done = subprocess.run([docker, "compose", "--file", FILE, "config"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_shows_the_same_options_without_compose():
    (line,) = re.findall(r"^\$ docker run (.*) codex-server$", PAGE, re.MULTILINE)
    only_for_compose = ("--env=", "--log-")  # variables that are handed on; the bound of the engine's log
    ours = {option for option in run_options(SERVICE, "codex-state") if not option.startswith(only_for_compose)}
    named = {"--detach", "--name", "codex-server", "--restart", "unless-stopped"}
    assert set(line.replace("127.0.0.1:8000:8000", "127.0.0.1::8000").split()) == ours | named


def test_the_page_shows_every_grant_and_every_argument_of_the_build():
    for grant in GRANTS:
        calls = " ".join(f"`{call}`" for call in grant.calls)
        assert f"| **{grant.title}**: {calls} | {grant.reason} |\n" in PAGE
    for name in re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE):
        assert f"`{name}`" in PAGE


def test_the_image_tells_the_version_that_it_holds():
    assert re.findall(r'image\.version="(.*)"', DOCKERFILE) == [__version__]


def test_the_base_can_be_chosen_and_every_stage_has_it():
    assert re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE) == ["python:3.13-slim"]
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["$BASE", "$BASE"]


def test_whatever_the_image_copies_may_enter_the_build_and_nothing_else():
    lines = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    copied = {word for line in lines for word in line.split()}
    allowed = {line.removeprefix("!") for line in IGNORED if line.startswith("!")}
    assert "*" in IGNORED
    assert {name.replace("[s]", "s") for name in copied} == allowed


def test_a_builder_of_yesterday_can_build_it():
    """Debian's engine builds without BuildKit: mounts, contexts and here-documents are not known to it."""
    assert not re.search(r"--mount|--link|<<|^# syntax|--start-interval", DOCKERFILE, re.MULTILINE)
