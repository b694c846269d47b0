import asyncio
import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_server.cli.doctor import render_findings
from codex_server.cli.host_checks import Finding, Host, examine_docker, examine_host, examine_languages, examine_level
from codex_server.languages import load_languages
from codex_server.packages.package_set import InstalledPackages, Package
from codex_server.sandboxes.base import Isolation, IsolationLevel
from codex_server.sandboxes.docker.engine import Engine, EngineError
from codex_server.sandboxes.embedded.diagnose import HostFacts, explain
from codex_server.sandboxes.embedded.zygote_process import LaunchFailed
from codex_server.sandboxes.guest import kernel
from codex_server.sandboxes.seccomp import syscalls
from tests.engine import built_images
from tests.levels import out_of_reach

pytestmark = pytest.mark.unprivileged

HOST = Host(
    release="6.12.1-amd64",
    machine="x86_64",
    root=False,
    max_user_namespaces="15000",
    userns_clone=None,
    apparmor_restricts=None,
    cgroup_version=2,
    seccomp_actions="kill_process allow",
    landlock_abi=7,
)
ROOT = replace(HOST, root=True)


def test_a_host_that_has_everything_lacks_nothing():
    assert all(finding.verdict == "ok" for finding in examine_host(ROOT, None))


@pytest.mark.parametrize(
    ("host", "name", "remedy"),
    [
        (replace(ROOT, release="5.10.0-9"), "kernel", "Linux 5.12"),
        (replace(ROOT, machine="riscv64"), "kernel", "x86_64 or aarch64"),
        (replace(ROOT, max_user_namespaces="0"), "user namespaces", "user.max_user_namespaces=15000"),
        (replace(HOST, userns_clone="0"), "user namespaces", "kernel.unprivileged_userns_clone=1"),
        (replace(HOST, apparmor_restricts="1"), "user namespaces", "apparmor_restrict_unprivileged_userns=0"),
        (replace(ROOT, cgroup_version=None), "cgroups", "mount cgroup2"),
        (replace(ROOT, seccomp_actions=None), "seccomp", "CONFIG_SECCOMP_FILTER"),
        (replace(ROOT, landlock_abi=0), "Landlock", "Linux 6.12"),
        (replace(ROOT, landlock_abi=4), "Landlock", "Linux 6.12"),
        (replace(ROOT, core_pattern="@/run/coredumps"), "core dumps", "kernel.core_pattern=core"),
        (replace(ROOT, core_pattern="@@/run/coredumps"), "core dumps", "kernel.core_pattern=core"),
    ],
)
def test_each_missing_thing_names_its_consequence_and_its_remedy(host: Host, name: str, remedy: str):
    (finding,) = [finding for finding in examine_host(host, IsolationLevel.FULL) if finding.verdict != "ok"]
    assert finding.name == name
    assert finding.consequence
    assert finding.verdict == ("lack" if name in ("kernel", "seccomp") else "note")
    assert remedy in str(finding.remedy)


@pytest.mark.parametrize(
    ("host", "failed"),
    [
        (replace(HOST, max_user_namespaces="0"), errno.ENOSPC),
        (replace(HOST, userns_clone="0"), errno.EPERM),
        (replace(HOST, userns_clone="1", apparmor_restricts="1"), errno.EPERM),
    ],
)
def test_the_remedy_is_the_one_that_a_server_tells_which_could_not_start(host: Host, failed: int):
    (finding,) = [finding for finding in examine_host(host, IsolationLevel.FULL) if finding.verdict != "ok"]
    facts = HostFacts(False, host.userns_clone, host.apparmor_restricts == "1")
    assert finding.remedy
    assert finding.remedy in explain(LaunchFailed("namespaces", failed, "no"), facts)


def test_the_machines_are_those_that_the_room_and_its_filters_know():
    assert set(kernel.MACHINES) == set(syscalls.AUDIT_ARCH)
    for machine in kernel.MACHINES:
        assert all(finding.verdict == "ok" for finding in examine_host(replace(ROOT, machine=machine), None))


def test_what_restricts_ordinary_users_does_not_restrict_root():
    assert all(f.verdict == "ok" for f in examine_host(replace(ROOT, userns_clone="0", apparmor_restricts="1"), None))


def test_an_ordinary_user_without_delegated_cgroups_learns_how_to_get_them():
    (finding,) = [f for f in examine_host(HOST, IsolationLevel.NAMESPACES) if f.verdict != "ok"]
    assert (finding.name, "Delegate=yes" in str(finding.remedy)) == ("cgroups", True)


def test_a_missing_interpreter_is_named_with_what_callers_get():
    bash = load_languages().find("bash")
    (finding,) = examine_languages([replace(bash, interpreter=None, version=None)])
    assert (finding.name, finding.found, finding.consequence) == ("bash", "not installed", "requests for bash get 503")


def test_packages_that_are_missing_are_a_note_with_the_command_that_brings_them(tmp_path: Path):
    python = load_languages(packages=tmp_path).find("python")
    _, missing = examine_languages([python])
    assert (missing.name, missing.verdict) == ("python packages", "note")
    assert missing.remedy == "`codex-server runners install python`"
    there = InstalledPackages(tmp_path, "pip", "/usr/bin/python3", (Package("numpy", "2"),), 2**20)
    _, found = examine_languages([replace(python, packages=there)])
    assert (found.verdict, found.found) == ("ok", f"1, 1 MiB, {tmp_path}")


def test_packages_that_are_switched_off_are_no_finding():
    assert len(examine_languages([load_languages().find("python")])) == 1


def test_a_level_below_the_one_that_is_asked_for_says_how_to_reach_or_accept_it():
    reached = Isolation(IsolationLevel.CONFINED, "Landlock", ("namespaces: do this",))
    finding = examine_level(reached, None, IsolationLevel.NAMESPACES)
    assert "requires namespaces" in str(finding.consequence)
    assert finding.remedy == "namespaces: do this; or accept this with CODEX_MIN_ISOLATION=confined"


def test_a_level_that_is_enough_but_not_full_is_a_note():
    reached = Isolation(IsolationLevel.NAMESPACES, "namespaces", ("no cgroups",))
    assert examine_level(reached, None, IsolationLevel.NAMESPACES).verdict == "note"
    assert examine_level(reached, None, IsolationLevel.FULL).verdict == "lack"


def test_no_level_at_all_shows_the_refusal():
    assert examine_level(None, "why not", IsolationLevel.CONFINED).remedy == "why not"


def test_each_lack_is_shown_with_its_remedy_below_it():
    text = render_findings(examine_host(replace(ROOT, landlock_abi=0), None))
    assert "ok    kernel" in text
    assert "LACK  Landlock             absent" in text  # no level was reached without it
    assert "remedy: use Linux 6.12" in text


def test_findings_line_up_whatever_their_names_and_a_path_stays_in_one_piece():
    path = "/a-folder-with/" + "many-hyphens-" * 12
    long = Finding("a runner's packages, by a long name", "found", "so it is", f"look into {path} again")
    rows = render_findings([long, Finding("short", "found")]).splitlines()
    column = rows[0].index("found")
    assert rows[-1].index("found") == column
    assert all(row[:column].isspace() for row in rows[1:-1])
    assert any(path in row for row in rows)


def test_the_command_says_whether_the_server_would_start():
    command = [
        sys.executable,
        "-m",
        "codex_server",
        "doctor",
        "--json",
        "--min-isolation",
        "confined",
        "--set",
        "port=0",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    shown = json.loads(result.stdout)
    assert shown["would_start"] is (result.returncode == 0)
    assert {
        "kernel",
        "user namespaces",
        "cgroups",
        "seccomp",
        "Landlock",
        "python",
        "state folder",
        "address",
        "isolation",
    } <= {finding["name"] for finding in shown["findings"]}


CONTAINERS = Isolation(IsolationLevel.FULL, "a container of its own for each sandbox")


def test_docker_that_works_is_a_fact_without_a_remedy():
    finding = examine_docker(CONTAINERS, None, "auto")
    assert (finding.name, finding.verdict, finding.found) == ("docker", "ok", CONTAINERS.summary)


@pytest.mark.parametrize(("asked_for", "verdict"), [("auto", "note"), ("embedded", "note"), ("docker", "lack")])
def test_docker_that_cannot_be_had_is_a_lack_only_where_it_is_asked_for(asked_for: str, verdict: str):
    trouble = "the docker backend cannot start: the Docker engine cannot be reached: start it"
    finding = examine_docker(None, trouble, asked_for)
    assert (finding.verdict, finding.found, finding.remedy) == (
        verdict,
        "not usable",
        "the Docker engine cannot be reached: start it",
    )
    assert "CODEX_BACKEND=docker does not start" in str(finding.consequence)


def test_docker_without_some_images_is_a_note_with_the_command_that_builds_them():
    missing = "bash is left out: the image x is missing: `codex-server runners build bash` builds it"
    finding = examine_docker(replace(CONTAINERS, shortfall=(missing,)), None, "docker")
    assert (finding.verdict, finding.found, finding.remedy) == ("note", CONTAINERS.summary, missing)
    assert finding.consequence == "not every language runs there"


def diagnosed(*arguments: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """The exit code, all that the command shows, and its finding about docker."""
    command = [sys.executable, "-m", "codex_server", "doctor", "--json", "--set", "port=0", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    shown = json.loads(result.stdout)
    (docker,) = [finding for finding in shown["findings"] if finding["name"] == "docker"]
    return result.returncode, shown, docker


def test_the_command_says_that_docker_would_not_start_without_an_engine(tmp_path: Path):
    host = f"unix://{tmp_path}/none.sock"
    code, shown, docker = diagnosed("--set", "backend=docker", "--set", f"docker_host={host}")
    assert (code, shown["would_start"], shown["isolation"]) == (1, False, None)
    assert docker["verdict"] == "lack"
    assert f"the Docker engine at {host} cannot be reached: start it" in docker["remedy"]


def test_the_command_says_that_images_are_missing_and_how_they_are_built():
    engine_or_skip()
    code, shown, docker = diagnosed("--set", "backend=docker", "--set", "docker_image=codex-test-none-{runner}:1")
    assert (code, shown["would_start"], docker["verdict"]) == (1, False, "lack")
    assert "`codex-server runners build` builds them" in docker["remedy"]


def test_the_command_says_that_docker_would_start_where_the_images_are():
    template = built_images(load_languages(), "cli")
    code, shown, docker = diagnosed("--set", "backend=docker", "--set", f"docker_image={template}")
    assert (code, shown["would_start"], shown["isolation"], docker["verdict"]) == (0, True, "full", "ok")


def engine_or_skip() -> None:
    engine = Engine()
    try:
        asyncio.run(engine.connect())
    except EngineError as error:
        out_of_reach("docker", error)
    finally:
        engine.close()
