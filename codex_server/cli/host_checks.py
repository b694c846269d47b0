"""The checks of this host for ``codex-server doctor``; a finding has the effect of what is missing and the remedy."""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codex_server.languages import Language
from codex_server.sandboxes.base import Isolation, IsolationLevel
from codex_server.sandboxes.embedded.diagnose import (
    USERNS_APPARMOR_REMEDY,
    USERNS_CLONE_REMEDY,
    USERNS_LIMIT_REMEDY,
    read_sysctl,
)
from codex_server.sandboxes.guest import kernel, landlock
from codex_server.units import format_size

_CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact. ``consequence`` and ``remedy`` are set where something is missing, and only there."""

    name: str
    found: str
    consequence: str | None = None
    remedy: str | None = None
    bearable: bool = False
    """Whether the server starts without what is missing."""

    @property
    def verdict(self) -> Literal["ok", "note", "lack"]:
        """``ok``: nothing is missing; ``note``: the server starts without it; ``lack``: it does not."""
        if self.consequence is None:
            return "ok"
        return "note" if self.bearable else "lack"


@dataclass(frozen=True, slots=True)
class Host:
    """The kernel's facts, read once; None where it has no such file."""

    release: str
    machine: str
    root: bool
    max_user_namespaces: str | None
    userns_clone: str | None
    apparmor_restricts: str | None
    cgroup_version: int | None
    seccomp_actions: str | None
    landlock_abi: int
    core_pattern: str | None = None


def read_host() -> Host:
    """Read the facts of this host."""
    return Host(
        release=platform.release(),
        machine=platform.machine(),
        root=os.geteuid() == 0,
        max_user_namespaces=read_sysctl("user/max_user_namespaces"),
        userns_clone=read_sysctl("kernel/unprivileged_userns_clone"),
        apparmor_restricts=read_sysctl("kernel/apparmor_restrict_unprivileged_userns"),
        cgroup_version=_cgroup_version(),
        seccomp_actions=read_sysctl("kernel/seccomp/actions_avail"),
        landlock_abi=landlock.abi(),
        core_pattern=read_sysctl("kernel/core_pattern"),
    )


def examine_host(host: Host, reached: IsolationLevel | None) -> list[Finding]:
    """Check the kernel and its features for the embedded sandbox; ``reached`` is the level of a sandbox made now."""
    return [
        _kernel(host),
        _user_namespaces(host, reached),
        _cgroups(host, reached),
        _seccomp(host),
        _landlock(host, reached),
        _core_dumps(host),
    ]


def examine_languages(languages: Iterable[Language]) -> list[Finding]:
    """Check each language's interpreter, and its packages if its runner names some."""
    return [
        finding
        for language in languages
        for finding in (_language(language), *([_packages(language)] if language.wanted else []))
    ]


def examine_level(reached: Isolation | None, refusal: str | None, least: IsolationLevel) -> Finding:
    """Compare the level of a sandbox made now with the required one."""
    if reached is None:
        return Finding("isolation", "none", "no code can be run here", refusal)
    found = f"{reached.level}: {reached.summary}"
    if reached.level < least:
        return Finding(
            "isolation",
            found,
            f"the server does not start: CODEX_MIN_ISOLATION requires {least}",
            "; ".join([*reached.shortfall, f"or accept this with CODEX_MIN_ISOLATION={reached.level}"]),
        )
    if reached.shortfall:
        return Finding(
            "isolation", found, f"it is not {IsolationLevel.FULL}", "; ".join(reached.shortfall), bearable=True
        )
    return Finding("isolation", found)


def examine_docker(reached: Isolation | None, trouble: str | None, configured: str) -> Finding:
    """Check the docker backend; that it cannot start is a lack only where the settings require it."""
    if reached is None:
        remedy = trouble and trouble.removeprefix("the docker backend cannot start: ")  # the consequence says that
        lost = "CODEX_BACKEND=docker does not start"
        return Finding("docker", "not usable", lost, remedy, bearable=configured != "docker")
    if reached.shortfall:
        missing = "; ".join(reached.shortfall)
        return Finding("docker", reached.summary, "not every language runs there", missing, bearable=True)
    return Finding("docker", reached.summary)


def _kernel(host: Host) -> Finding:
    system = f"Linux {host.release} {host.machine}, as {'root' if host.root else 'an unprivileged user'}"
    if host.machine not in kernel.MACHINES:
        remedy = f"use a machine with {' or '.join(kernel.MACHINES)}"
        return Finding("kernel", system, "the embedded sandbox does not run", remedy)
    if _version(host.release) < (5, 12):
        return Finding("kernel", system, "the embedded sandbox does not run", "use Linux 5.12 or newer")
    return Finding("kernel", system)


def _user_namespaces(host: Host, reached: IsolationLevel | None) -> Finding:
    fault = _user_namespaces_fault(host)
    if fault is None:
        return Finding("user namespaces", "allowed for root" if host.root else "allowed")
    found, remedy = fault
    lost = "the levels full and namespaces are not available"
    return Finding("user namespaces", found, lost, remedy, bearable=reached is not None)


def _user_namespaces_fault(host: Host) -> tuple[str, str] | None:
    """Return what forbids them, and the remedy."""
    if host.max_user_namespaces in (None, "0"):
        return "switched off", USERNS_LIMIT_REMEDY
    if host.root:
        return None
    if host.userns_clone == "0":
        return "forbidden to unprivileged users", USERNS_CLONE_REMEDY
    if host.apparmor_restricts == "1":
        return "restricted by AppArmor", USERNS_APPARMOR_REMEDY
    return None


def _cgroups(host: Host, reached: IsolationLevel | None) -> Finding:
    lost = "a watchdog limits memory instead, less precisely: level namespaces at most"
    if host.cgroup_version is None:
        return Finding("cgroups", "not mounted", lost, f"mount cgroup2 at {_CGROUP_ROOT}", bearable=True)
    if reached is not IsolationLevel.FULL and not host.root:
        remedy = "run the server as root, or as a service with systemd's Delegate=yes"
        return Finding(
            "cgroups", f"version {host.cgroup_version}, not delegated to this user", lost, remedy, bearable=True
        )
    return Finding("cgroups", f"version {host.cgroup_version}")


def _seccomp(host: Host) -> Finding:
    if host.seccomp_actions is None:
        return Finding("seccomp", "absent", "no code can be run here", "use a kernel with CONFIG_SECCOMP_FILTER")
    return Finding("seccomp", "filters are available")


def _landlock(host: Host, reached: IsolationLevel | None) -> Finding:
    if host.landlock_abi >= landlock.NEEDED_ABI:
        return Finding("Landlock", f"version {host.landlock_abi}")
    found = f"version {host.landlock_abi}" if host.landlock_abi else "absent"
    lost = "the level confined is not available; full and namespaces do not need it"
    remedy = "use Linux 6.12 or newer with landlock in its list of security modules"
    return Finding("Landlock", found, lost, remedy, bearable=reached is not None)


def _core_dumps(host: Host) -> Finding:
    """The sandbox's limit of 1 byte prevents a dump to a file or a program, but not one to a socket."""
    pattern = host.core_pattern or ""
    if not pattern.startswith("@"):
        return Finding("core dumps", "sandboxes leave none")
    lost = "the memory of a program that crashes in a sandbox is sent to that socket, whatever its limits are"
    return Finding("core dumps", f"to {pattern}", lost, "sysctl kernel.core_pattern=core", bearable=True)


def _language(language: Language) -> Finding:
    if language.interpreter and language.version:
        return Finding(language.name, f"{language.version}, {language.interpreter.path}")
    lost = f"requests for {language.name} get 503"
    if language.interpreter:
        remedy = f"{language.interpreter.path} does not report its version; repair or reinstall it"
        return Finding(language.name, "broken", lost, remedy, bearable=True)
    return Finding(
        language.name, "not installed", lost, f"install {language.title} from the distribution", bearable=True
    )


def _packages(language: Language) -> Finding:
    name = f"{language.name} packages"
    if language.packages is None:
        lost = "programs run without them: each import of one fails"
        return Finding(name, "not installed", lost, f"`codex-server runners install {language.name}`", bearable=True)
    installed = language.packages
    return Finding(name, f"{len(installed.packages)}, {format_size(installed.size)}, {installed.folder}")


def _cgroup_version() -> int | None:
    if (_CGROUP_ROOT / "cgroup.controllers").exists():
        return 2
    return 1 if (_CGROUP_ROOT / "memory").exists() else None


def _version(release: str) -> tuple[int, int]:
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
