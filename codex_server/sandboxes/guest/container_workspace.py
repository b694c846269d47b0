"""The operator's folder that an engine has mounted as a container's workspace: checked before anything of a guest runs.

INVARIANT: a guest sees that folder alone. The engine mounts whatever the folder's path leads to just then, perhaps on
another machine, so init compares what it finds with what the server has opened, and serves no other.
"""

import os

from ..protocol.launch import ContainerWorkspace
from .named_folders import identity
from .step import StepFailed, step

WORKSPACE = "/workspace"
STEP = "workspace"


def check(expected: ContainerWorkspace) -> None:
    """Raise ``StepFailed`` unless the workspace is the folder that is expected, and nothing more."""
    with step(STEP):
        folder = os.open(WORKSPACE, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            status, read_only = os.fstat(folder), bool(os.fstatvfs(folder).f_flag & os.ST_RDONLY)
        finally:
            os.close(folder)
        inner = _mounted_inside()
    if identity(status) != expected.identity:
        raise StepFailed(STEP, None, "the engine has mounted another folder: it sees other paths than the server does")
    if inner:
        raise StepFailed(STEP, None, f"the engine shows what is mounted inside the folder, at {inner}")
    if expected.owner is None and not read_only:
        raise StepFailed(STEP, None, "the engine has not mounted the folder read-only")
    if expected.owner not in (None, status.st_uid):
        why = f"the engine shows the folder of uid {expected.owner} as uid {status.st_uid}'s: it maps ids (rootless?)"
        raise StepFailed(STEP, None, why)


def _mounted_inside() -> str | None:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        places = [line.split()[4] for line in file]
    return next((place for place in places if place.startswith(f"{WORKSPACE}/")), None)
