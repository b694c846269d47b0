"""What tests need of a machine, by name, and what becomes of a test whose machine has not got it.

``CODEX_REQUIRE_LEVELS=full,docker,libseccomp`` names what must be there: a test that needs it and does not find it then
fails, where it is a skip with that name otherwise.
"""

import os
from typing import NoReturn

import pytest

VARIABLE = "CODEX_REQUIRE_LEVELS"
LEVELS = ("full", "namespaces", "confined")
"""Of the embedded backend, from the strongest to the weakest."""
NAMES = {
    "full": "the isolation level: root, and cgroups",
    "namespaces": "the isolation level: user namespaces",
    "confined": "the isolation level: Landlock of Linux 6.12",
    "docker": "a Docker engine, and an image to build from (`CODEX_TEST_BASE`)",
    "container": "the same, for the server in a container",
    "gvisor": "a Docker engine that knows the runtime runsc",
    "private-engine": "root, and `dockerd` for an engine of one's own",
    "cgroups": "root, and a cgroup of one's own",
    "mounts": "root, and mount namespaces (`unshare`, `nsenter`)",
    "user-namespaces": "user namespaces (`unshare`)",
    "devices": "root that may make a device",
    "landlock": "Landlock of Linux 6.12",
    "listener": "a kernel that hands held system calls to a listener (Linux 5.19), and no other listener above",
    "languages": "the interpreter of every runner, and perl",
    "libseccomp": "libseccomp.so.2",
    "kernel-headers": "the kernel's headers for user space",
    "curl": "`curl`",
    "ipv6": "an IPv6 loopback address",
    "browser": "Chromium, for pages",
    "nginx": "nginx, as a reverse proxy",
    "compose": "`docker compose` of version 2",
}
"""Every name that ``CODEX_REQUIRE_LEVELS`` may hold, and what it stands for."""


def required() -> set[str]:
    """The names that this run must not skip. Raises ``ValueError`` for one that there is not."""
    names = set(filter(None, os.environ.get(VARIABLE, "").split(",")))
    if unknown := names - NAMES.keys():
        raise ValueError(f"{VARIABLE}: there is no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return names


def out_of_reach(name: str, reason: object) -> NoReturn:
    """Skip the test, or fail it where ``CODEX_REQUIRE_LEVELS`` has ``name``.

    The reason is put on one line, and ``.ci/run`` looks for the words before it, when it lists what was skipped.
    """
    assert name in NAMES, name
    message = f"{name} is out of reach here: {' '.join(str(reason).split())}"
    if name in required():
        pytest.fail(message)
    pytest.skip(message)


def needs(name: str, reachable: bool, reason: str) -> pytest.MarkDecorator:
    """The mark of a test that is ``out_of_reach`` unless ``reachable``."""
    return pytest.mark.needs(name, reachable, reason)
