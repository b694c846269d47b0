import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from codex_server.cli.doctor import render_findings
from codex_server.cli.findings import Host, examine_host, examine_languages, examine_level
from codex_server.languages import load_languages
from codex_server.packages import InstalledPackages, Package
from codex_server.sandboxes.base import Isolation, IsolationLevel

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
    ("host", "name", "cure"),
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
    ],
)
def test_each_missing_thing_names_its_consequence_and_its_cure(host: Host, name: str, cure: str):
    (finding,) = [finding for finding in examine_host(host, IsolationLevel.FULL) if finding.verdict != "ok"]
    assert finding.name == name
    assert finding.consequence
    assert finding.verdict == ("lack" if name in ("kernel", "seccomp") else "note")
    assert cure in str(finding.cure)


def test_what_restricts_ordinary_users_does_not_restrict_root():
    assert all(f.verdict == "ok" for f in examine_host(replace(ROOT, userns_clone="0", apparmor_restricts="1"), None))


def test_an_ordinary_user_without_delegated_cgroups_learns_how_to_get_them():
    (finding,) = [f for f in examine_host(HOST, IsolationLevel.NAMESPACES) if f.verdict != "ok"]
    assert (finding.name, "Delegate=yes" in str(finding.cure)) == ("cgroups", True)


def test_a_missing_interpreter_is_named_with_what_callers_get():
    bash = load_languages().find("bash")
    (finding,) = examine_languages([replace(bash, interpreter=None, version=None)])
    assert (finding.name, finding.found, finding.consequence) == ("bash", "not installed", "requests for bash get 503")


def test_packages_that_are_missing_are_a_note_with_the_command_that_brings_them(tmp_path: Path):
    python = load_languages(packages=tmp_path).find("python")
    _, missing = examine_languages([python])
    assert (missing.name, missing.verdict) == ("python packages", "note")
    assert missing.cure == "codex-server runners install python"
    there = InstalledPackages(tmp_path, "pip", "/usr/bin/python3", (Package("numpy", "2"),), 2**20)
    _, found = examine_languages([replace(python, packages=there)])
    assert (found.verdict, found.found) == ("ok", f"1, 1 MiB, {tmp_path}")


def test_packages_that_are_switched_off_are_no_finding():
    assert len(examine_languages([load_languages().find("python")])) == 1


def test_a_level_below_the_one_that_is_asked_for_says_how_to_reach_or_accept_it():
    reached = Isolation(IsolationLevel.CONFINED, "Landlock", ("namespaces: do this",))
    finding = examine_level(reached, None, IsolationLevel.NAMESPACES)
    assert "asks for namespaces" in str(finding.consequence)
    assert finding.cure == "namespaces: do this; or accept this with CODEX_MIN_ISOLATION=confined"


def test_a_level_that_is_enough_but_not_full_is_a_note():
    reached = Isolation(IsolationLevel.NAMESPACES, "namespaces", ("no cgroups",))
    assert examine_level(reached, None, IsolationLevel.NAMESPACES).verdict == "note"
    assert examine_level(reached, None, IsolationLevel.FULL).verdict == "lack"


def test_no_level_at_all_shows_the_refusal():
    assert examine_level(None, "why not", IsolationLevel.CONFINED).cure == "why not"


def test_each_lack_is_shown_with_its_cure_below_it():
    text = render_findings(examine_host(replace(ROOT, landlock_abi=0), None))
    assert "ok    kernel" in text
    assert "LACK  Landlock          absent" in text  # no level was reached without it
    assert "cure: use Linux 6.12" in text


def test_the_command_says_whether_the_server_would_start():
    command = [sys.executable, "-m", "codex_server", "doctor", "--json", "--min-isolation", "confined"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    shown = json.loads(result.stdout)
    assert shown["would_start"] is (result.returncode == 0)
    assert {"kernel", "user namespaces", "cgroups", "seccomp", "Landlock", "python", "isolation"} <= {
        finding["name"] for finding in shown["findings"]
    }
