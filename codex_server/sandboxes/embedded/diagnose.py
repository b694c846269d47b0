"""Why a level of isolation is out of reach on this host, and the remedy: from the step that failed and its errno."""

import errno
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from codex_server.sandboxes.embedded.zygote_process import LaunchFailed

_CONTAINER_REMEDY = (
    "start the container with --security-opt seccomp=seccomp.json (this project's; docs/container.md) --security-opt "
    "systempaths=unconfined --security-opt apparmor=unconfined (no capability and no --privileged is needed), or run "
    "the server outside a container"
)
USERNS_LIMIT_REMEDY = "sysctl user.max_user_namespaces=15000"
USERNS_CLONE_REMEDY = "sysctl kernel.unprivileged_userns_clone=1"
USERNS_APPARMOR_REMEDY = (
    "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns` for this server's "
    "Python"
)
"""What allows user namespaces, where each of three settings forbids them; ``codex-server doctor`` reports the same."""

_APPARMOR = f"AppArmor restricts unprivileged user namespaces: {USERNS_APPARMOR_REMEDY}"
_MOUNT_STEPS = ("mounts", "pivot", "tmpfs", "ids")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What decides between causes that share an errno."""

    seccomp_filtered: bool
    """Whether this process itself runs under a seccomp filter, as in a container."""
    userns_clone: str | None
    """The value of the sysctl ``kernel.unprivileged_userns_clone`` (Debian's and Ubuntu's), if there is one."""
    apparmor_restricts: bool
    """Whether AppArmor takes capabilities from unprivileged user namespaces (Ubuntu 23.10 and later)."""


def read_host_facts() -> HostFacts:
    """The facts of this host, now."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return HostFacts(
        seccomp_filtered="Seccomp:\t2" in status,
        userns_clone=read_sysctl("kernel/unprivileged_userns_clone"),
        apparmor_restricts=read_sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1",
    )


def read_sysctl(name: str) -> str | None:
    """The value of the file ``name`` below ``/proc/sys``; None where the kernel has none."""
    try:
        return (Path("/proc/sys") / name).read_text(encoding="ascii").strip()
    except OSError:
        return None


def closed_to_others(folders: Iterable[Path]) -> Path | None:
    """The first folder on the way to any of ``folders`` that other accounts may not enter."""
    on_the_way = (step for folder in folders for step in (*reversed(folder.parents), folder))
    return next((step for step in on_the_way if not step.stat().st_mode & stat.S_IXOTH), None)


def explain(failure: LaunchFailed, facts: HostFacts) -> str:
    """One sentence of cause and one of remedy for a zygote that did not come up with namespaces."""
    cause = f"namespaces: step {failure.step or 'start'!r} failed ({failure})"
    return f"{cause}. To mend it: {_remedy(failure, facts)}"


def _remedy(failure: LaunchFailed, facts: HostFacts) -> str:
    """The first row that fits."""
    denied = failure.errno in (errno.EPERM, errno.EACCES)
    rows = (
        (failure.errno == errno.ENOSPC, f"allow user namespaces: {USERNS_LIMIT_REMEDY} (it is used up)"),
        (failure.errno == errno.ENOSYS, "use Linux 5.12 or newer: this kernel lacks interfaces that are needed"),
        (failure.step == "namespaces" and denied, _userns_remedy(facts)),
        (failure.step == "proc" and denied, "/proc is masked here, as in a container: " + _CONTAINER_REMEDY),
        (denied and failure.step in _MOUNT_STEPS and facts.apparmor_restricts, _APPARMOR),
        (denied and failure.step in _MOUNT_STEPS, _CONTAINER_REMEDY),
        (
            failure.step == "id-maps",
            "set CODEX_GUEST_IDS to first:count of ids that this server may map and nobody owns",
        ),
    )
    return next((remedy for fits, remedy in rows if fits), "run `codex-server doctor` and report what it prints")


def _userns_remedy(facts: HostFacts) -> str:
    if facts.seccomp_filtered:
        return "a seccomp filter forbids user namespaces, as in a container: " + _CONTAINER_REMEDY
    if facts.userns_clone == "0":
        return f"allow user namespaces: {USERNS_CLONE_REMEDY}"
    if facts.apparmor_restricts:
        return _APPARMOR
    return "allow unprivileged user namespaces on this host (a security module forbids them)"
